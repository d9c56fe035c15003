import sys

import pytest

from regioncap.experiments.tracking.notes import command_line, note, picture_address, program, table_of


def test_description_holds_all_it_is_given() -> None:
    table = table_of(["arm", "CIDEr"], [["a|b", "45.0"]])
    assert table == ["| arm | \u00a0\u00a0CIDEr |", "| --- | ---: |", "| a\\|b | 45.0 |"]
    text = note("One arm.", command="regioncap ablate scenes", table=table, picture="get-artifact?x")
    assert text.startswith("One arm.\n\n| arm | ")
    assert "](get-artifact?x)" in text
    assert text.endswith("```\nregioncap ablate scenes\n```")
    assert note(" One arm.\n") == "One arm."


def test_long_table_is_cut_at_a_line() -> None:
    text = note("x", table=table_of(["arm", "CIDEr"], [[f"arm {i}", "45.0"] for i in range(1000)]))
    assert len(text) <= 8000
    assert text.endswith(" 45.0 |\n…")


def test_picture_is_addressed_whatever_its_name() -> None:
    assert picture_address("pictures/a b+c.png", "r1") == "get-artifact?path=pictures%2Fa%20b%2Bc.png&run_uuid=r1"
    assert picture_address("a.png") == "get-artifact?path=a.png&run_uuid={run_id}"


def test_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/regioncap", "ablate", "scenes", "--arms", "+graph", "no edges"])
    assert command_line() == "regioncap ablate scenes --arms +graph 'no edges'"
    assert program() == "regioncap ablate scenes"
    monkeypatch.setattr(sys, "argv", ["/x/regioncap", "distil", "/home/me/checkpoint", "--out", "x"])
    assert program() == "regioncap distil"
