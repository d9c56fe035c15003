"""Descriptions of runs and experiments in Markdown: what this is, the command that made it, its table, a picture."""

import itertools
import shlex
import sys
from collections.abc import Sequence

NOTE = "mlflow.note.content"
"""The tag that MLflow's interface shows as a description."""
RUN_ID = "{run_id}"
"""Stands in a description for the id of its run, which is known when MLflow has made it."""
_LONGEST = 7900
"""Characters of a tag are cut at 8,000 by MLflow."""


def command_line() -> str:
    """The words that started this process, to be typed again."""
    return shlex.join(["regioncap", *sys.argv[1:]])


def program() -> str:
    """The command without its flags: `regioncap ablate scenes`."""
    words = itertools.takewhile(lambda word: not word.startswith("-") and "/" not in word, sys.argv[1:])
    return " ".join(["regioncap", *words])


def note(says: str, *, command: str = "", table: Sequence[str] = (), picture: str = "") -> str:
    """A description: one sentence, the `command`, the lines of a Markdown `table`, and the address of a `picture`.

    What is longer than MLflow keeps is cut at the end of a line.
    """
    parts = [says.strip()]
    if table:
        parts.append("\n".join(table))
    if picture:
        parts.append(f"![what the captioner saw]({picture})")
    if command:
        parts.append(f"```\n{command}\n```")
    return _cut("\n\n".join(parts))


def picture_address(path: str, run_id: str = RUN_ID) -> str:
    """Where MLflow's interface serves a run's picture; relative, so that it holds behind any host and port."""
    return f"get-artifact?path={path.replace('/', '%2F').replace(' ', '%20').replace('+', '%2B')}&run_uuid={run_id}"


def table_of(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; all columns but the first are figures."""
    # MLflow sets the columns so close that their heads touch.
    heads = [columns[0], *(f"\u00a0\u00a0{head}" for head in columns[1:])]
    lines = [heads, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST].rsplit("\n", 1)[0] + "\n…"
