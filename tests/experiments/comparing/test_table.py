import io

from rich.console import Console

from regioncap.experiments.comparing.effects import compare_runs
from regioncap.experiments.comparing.table import effect_rows, legend, print_runs, runs_markdown, said


def printed(comparison, **options) -> str:
    console = Console(file=io.StringIO(), width=60)
    print_runs(comparison, options.get("metric", "CIDEr"), options.get("shown", 2), console)
    return console.file.getvalue()


def test_table_of_several_seeds_has_spreads_pairs_and_both_intervals(make_run):
    (base, old), (run, new) = make_run("base", seeds=(0, 1)), make_run("run", seeds=(0, 1), gain=0.1)
    comparison = compare_runs(base, run, bleu_counts=[*old, *new], samples=50)
    head, *rows = effect_rows(comparison)
    assert head == (
        *("metric", "base", "run", "difference", "95% images", "95% images, seeds", "p", "by seed"),
        *("better", "worse", "equal", "effect size"),
    )
    cider = dict(zip(head, next(row for row in rows if row[0] == "CIDEr"), strict=True))
    effect = comparison.effects["CIDEr"]
    assert cider["run"] == f"{100 * effect.run.mean:.1f} ± {100 * effect.run.std:.1f}"
    assert cider["difference"] == f"{100 * effect.difference:+.1f}"
    assert cider["95% images"] == "{:+.1f} to {:+.1f}".format(*(100 * end for end in effect.interval))
    assert cider["by seed"] == " ".join(f"{100 * value:+.1f}" for value in effect.by_seed)
    assert int(cider["better"]) + int(cider["worse"]) + int(cider["equal"]) == 40
    text = "\n".join(legend(comparison))
    assert "Seeds 0, 1 on both sides, drawn in pairs" in text
    assert "SPICE n/a: no jars" in text
    assert f"These are {len(rows)} tests" in text


def test_columns_of_seeds_are_only_there_where_there_are_some(make_run):
    (base, _), (run, _) = make_run("base"), make_run("run")
    head, *rows = effect_rows(compare_runs(base, run, samples=20))
    assert not {"by seed", "95% images, seeds"} & set(head)
    assert all("±" not in cell for row in rows for cell in row)
    assert "One training run a side" in "\n".join(legend(compare_runs(base, run, samples=20)))
    unpaired = compare_runs(make_run("base", seeds=(0, 1))[0], make_run("run", seeds=(4,))[0], samples=20)
    assert "by seed" not in effect_rows(unpaired)[0]
    assert "Seeds 0, 1 against 4: drawn apart" in "\n".join(legend(unpaired))


def test_terminal_shows_the_images_that_changed_most_uncut(make_run):
    (base, _), (run, _) = make_run("base", seeds=(0, 1)), make_run("run", seeds=(0, 1))
    comparison = compare_runs(base, run, samples=20)
    text = printed(comparison, shown=1)
    gains = comparison.gains["CIDEr"]
    best, worst = comparison.images[int(gains.argmax())], comparison.images[int(gains.argmin())]
    assert text.index("Largest CIDEr gains") < text.index(best) < text.index("Largest CIDEr losses")
    assert f"{100 * gains.min():+.1f}  {worst}" in text
    assert f"run: run 0 says {best} / run 1 says {best}" in text
    assert "…" not in text
    assert "Largest" not in printed(comparison, shown=0)


def test_captions_that_seeds_share_are_said_once(make_run):
    run, _ = make_run("run", seeds=(0, 2, 1))
    assert said(run, "3.jpg") == "run 0 says 3.jpg / run 1 says 3.jpg"


def test_markdown_holds_the_same(make_run):
    (base, _), (run, _) = make_run("base|1"), make_run("run")
    comparison = compare_runs(base, run, samples=20)
    page = runs_markdown(comparison, "METEOR", 3)
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(comparison.effects) + 2 * (2 + 3)
    assert "base\\|1" in lines[0]
    assert "## Largest METEOR losses" in page
