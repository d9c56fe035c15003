import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "packages" / "guidance" / "README.md"


def test_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(snippet, str(README), "exec"), names)
    assert (names["scene"], names["detail"]) == ({"quay": 1}, {"kite": 1, "red": 1})
    assert names["bank"].nearest_words("chilren") == ("children",)
    assert names["more"].words[-2:] == ("hot dog", "surfboard")
