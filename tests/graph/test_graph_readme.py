import re
from pathlib import Path

README = Path(__file__).parents[2] / "packages" / "graph" / "README.md"


def test_snippet_runs() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(snippet, str(README), "exec"), names)
    assert names["fused"].shape == (2, 512)
