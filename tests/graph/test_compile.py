import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "compiled_stage.py"
CASES = [
    "paper lists semantic inductor",
    "best dense mixed aot_eager",
    "best lists learned aot_eager",
]


@pytest.fixture(scope="module")
def compiled() -> dict[str, Any]:
    done = subprocess.run([sys.executable, SCRIPT, *CASES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("case", CASES)
def test_stage_compiles_into_one_graph_and_equals_eager(compiled: dict[str, Any], case: str) -> None:
    assert compiled["difference"][CASES.index(case)] < 2e-4


def test_broken_values_are_refused_in_compiled_code(compiled: dict[str, Any]) -> None:
    assert "a valid region has NaN or infinite" in compiled["refusal"]
