import re
from pathlib import Path

import torch

README = Path(__file__).parents[2] / "packages" / "decoder" / "README.md"


def test_snippet_runs_as_it_stands() -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(snippet, str(README), "exec"), names)
    assert names["found"].tokens.shape[:2] == (3, 2)  # type: ignore[attr-defined]
