"""The table on the terminal, in Markdown and in LaTeX."""

import io

import pytest
from rich.console import Console

from regioncap.experiments.metrics import METRICS
from regioncap.experiments.scoring.table import (
    best_systems,
    legend,
    p_text,
    print_comparison,
    table_latex,
    table_markdown,
    warnings,
)


def printed(comparison, width: int = 60, **options) -> str:
    text = io.StringIO()
    print_comparison(comparison, "title [x]", Console(file=text, width=width, **options))
    return text.getvalue()


def test_every_score_interval_and_p_is_there_whatever_the_width(invented):
    comparison = invented(names=("old", "a_name_longer_than_most"))
    text = printed(comparison)
    assert "…" not in text
    for part in (*METRICS, "old", "a_name_longer_than_most", "title [x]"):
        assert part in text
    for cells in comparison.measured.values():
        for cell in cells:
            assert f"{100 * cell.value:.1f}" in text
            assert f"{100 * cell.low:.1f}–{100 * cell.high:.1f}" in text
            assert p_text(cell.p) in text


def test_names_are_not_markup(invented):
    assert "[red]x[/red]" in printed(invented(names=("[red]x[/red]", "b|c")))
    assert "b\\|c" in table_markdown(invented(names=("[red]x[/red]", "b|c")))


def test_best_is_green_and_nobody_is_where_all_are_alike(invented):
    comparison = invented(gain=0.5)
    assert best_systems(comparison.measured) == {metric: {1} for metric in METRICS}
    assert "\x1b[1;32m" in printed(comparison, force_terminal=True)
    assert "\x1b[1;32m" not in printed(invented(gain=0.0), force_terminal=True)
    assert all(not best for best in best_systems(invented(gain=0.0).measured).values())
    assert all(not best for best in best_systems(invented(names=("one",)).measured).values())


@pytest.mark.parametrize(("p", "text"), [(None, ""), (0.0001, "p<0.001"), (0.001, "p 0.001"), (1.0, "p 1.000")])
def test_p(p, text):
    assert p_text(p) == text


def test_legend_says_what_is_needed(invented):
    lines = " ".join(legend(invented(names=("one",), samples=100, seed=3)))
    assert "95% percentile bootstrap" in lines
    assert "100 resamples, seed 3" in lines
    assert "p:" not in lines
    for part in ("BLEU is made anew", "METEOR's is that of the mean", "CIDEr's word weights stay"):
        assert part in lines
    lines = " ".join(legend(invented(names=("one", "two", "three"), metrics=("CIDEr",), baseline=1)))
    assert "against two" in lines
    assert "2 tests, not corrected" in lines
    assert "METEOR" not in lines
    assert "SPICE n/a: no jars" in legend(invented(absent={"SPICE": "no jars"}))


def test_parts_of_spice_are_a_table_of_their_own(invented):
    comparison = invented(parts=("Object", "Color"), gain=0.5)
    text = printed(comparison)
    assert "SPICE by kind of tuple" in text
    assert text.index("CIDEr") < text.index("Object") < text.index("Color")
    markdown = table_markdown(comparison)
    assert "| system | Object | Color |" in markdown
    assert "11 tests" in text
    assert "SPICE by kind" not in printed(invented(metrics=("CIDEr",), parts=("Object",)))


def test_warnings_name_a_system_where_it_is_not_of_all(invented):
    comparison = invented(warnings=(("few images", "2 empty"), ("few images",)))
    assert warnings(comparison) == ["few images", "old: 2 empty"]


def test_markdown_is_a_table_with_the_best_in_bold(invented):
    comparison = invented(gain=0.5)
    head, rule, old, new, *_ = table_markdown(comparison).splitlines()
    assert head == f"| system | {' | '.join(METRICS)} |"
    assert rule.count("---:") == len(METRICS)
    assert "**" not in old
    assert new.count("**") == 2 * len(METRICS)
    assert new.count("<br>p") == len(METRICS)


def test_latex_has_as_many_columns_as_metrics_and_escapes_names(invented):
    comparison = invented(names=("a_b & 50%", "c"), metrics=("CIDEr", "ROUGE-L"), gain=0.5)
    lines = table_latex(comparison).splitlines()
    rows = [line for line in lines if line.endswith("\\\\")]
    assert rows[0] == " & ROUGE-L & CIDEr \\\\"
    assert r"a\_b \& 50\%" in rows[1]
    assert all(row.replace("\\&", "").count("&") == 2 for row in rows)
    assert rows[3].count("\\textbf") == 2
    assert len(rows) == 6
    assert r"\begin{tabular}{lrr}" in lines
