import pytest
from hypothesis import given
from hypothesis import strategies as st

from regioncap.experiments.reporting.tables import ReportTable, latex, markdown, tex

TABLE = ReportTable(title="Cost", head=("arm", "CPU s"), rows=(("a|b_c", "1 ± 2"), ("d", "3")), note="Means.")


def test_markdown_has_a_heading_a_table_and_a_note() -> None:
    assert markdown([TABLE]).splitlines() == [
        *("## Cost", "", "| arm | CPU s |", "| --- | ---: |", "| a\\|b_c | 1 ± 2 |", "| d | 3 |", "", "Means.")
    ]
    assert markdown([]) == ""


def test_latex_is_booktabs_with_the_best_in_bold() -> None:
    assert latex(TABLE, [frozenset(), frozenset({1})]).splitlines() == [
        "% Cost",
        "% Means.",
        "\\begin{tabular}{lr}",
        "\\toprule",
        "arm & CPU s \\\\",
        "\\midrule",
        "a|b\\_c & 1 $\\pm$ 2 \\\\",
        "d & \\textbf{3} \\\\",
        "\\bottomrule",
        "\\end{tabular}",
    ]


@given(st.text(alphabet="ab%&$#_{}~^\\", max_size=20))
def test_no_sign_of_latex_is_left_bare(text: str) -> None:
    written = tex(text)
    for named in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}"):
        written = written.replace(named, "")
    for sign in "%&$#_{}":
        written = written.replace(f"\\{sign}", "")
    assert not set(written) - {"a", "b"}


def test_row_must_fit_its_head() -> None:
    with pytest.raises(ValueError, match="'x': a row of 1 cells under 2 heads"):
        ReportTable(title="x", head=("a", "b"), rows=(("1",),))
