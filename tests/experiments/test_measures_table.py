import io

from rich.console import Console

from regioncap.experiments.measures_table import measures_markdown, print_measures

ROWS = {"ours": {"CHAIRs": "12.3", "length": "9.8"}, "the|irs": {"length": "10.1"}}
MISSING = {"CLIPScore": "get a CLIP", "RefCLIPScore": "get a CLIP", "novelty": "name training"}


def test_markdown() -> None:
    lines = measures_markdown(ROWS, MISSING)
    assert lines[:6] == [
        "## Beside the metrics",
        "",
        "| captions of | CHAIRs | length |",
        "| --- | ---: | ---: |",
        "| ours | 12.3 | 9.8 |",
        "| the\\|irs | n/a | 10.1 |",
    ]
    legend = "\n".join(lines[6:])
    assert (
        "CHAIRs: captions that name an object that is not there (Rohrbach et al. 2018) (%, lower is better)" in legend
    )
    assert "length: words of a caption (words)" in legend
    assert "- CLIPScore, RefCLIPScore n/a: get a CLIP\n- novelty n/a: name training" in legend


def test_terminal_cuts_no_column() -> None:
    out = io.StringIO()
    print_measures(ROWS, MISSING, Console(file=out, width=20))
    text = out.getvalue()
    assert [line.split() for line in text.splitlines() if line.startswith((" ours", " the"))] == [
        ["ours", "12.3", "9.8"],
        ["the|irs", "n/a", "10.1"],
    ]


def test_nothing_measured_is_nothing_shown() -> None:
    out = io.StringIO()
    print_measures({"ours": {}}, MISSING, Console(file=out))
    assert out.getvalue() == ""
    assert measures_markdown({"ours": {}}, MISSING) == []
