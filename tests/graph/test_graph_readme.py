import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "packages" / "graph" / "README.md"


def test_snippets_run_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(snippet, str(README), "exec"), names)
    assert names["fused"].shape == (2, 512)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph.png", "graph.svg"]
