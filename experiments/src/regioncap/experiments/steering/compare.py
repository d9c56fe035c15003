"""A caption without and with a user's edits, and what guidance chose for either: as a record and as lines to read."""

from collections.abc import Mapping
from typing import Any

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import Generated
from regioncap.experiments.pictures import chosen_record
from regioncap.experiments.steering.edits import BatchEdits

_SHOWN = 8
_LEAST = 0.005


def steering_record(
    captioner: Captioner, before: Generated, after: Generated, edits: BatchEdits, image: int
) -> dict[str, Any]:
    """What the edits did to one picture of a batch.

    `caption_before` and `caption_after`; `strength`, `edits` (word, change, region or None) and `notes`;
    `chosen_before` and `chosen_after` as in `chosen_record`.
    """
    return {
        "caption_before": before.texts[image],
        "caption_after": after.texts[image],
        "strength": edits.steering.strength,
        "edits": [{"word": edit.word, "change": edit.change, "region": edit.region} for edit in edits.edits[image]],
        "notes": list(edits.notes[image]),
        "chosen_before": chosen_record(captioner, before, image),
        "chosen_after": chosen_record(captioner, after, image),
    }


def steering_lines(record: Mapping[str, Any]) -> list[str]:
    """The record for a terminal; of regions, those whose words changed."""
    before, after = record["chosen_before"], record["chosen_after"]
    lines = [f"  without   {record['caption_before']}", f"  with      {record['caption_after']}"]
    lines += [f"  edits     {_edits(record['edits'])}"] if record["edits"] else []
    for kind in ("scene", "keywords"):
        if before[kind] or after[kind]:
            lines.append(f"  {kind:9} {_words(before[kind])}  ->  {_words(after[kind])}")
    for number, words in after["regions"].items():
        if list(words) != list(before["regions"][number]):
            lines.append(f"  {'region ' + number:9} {_words(before['regions'][number])}  ->  {_words(words)}")
    return lines + [f"  note      {note}" for note in record["notes"]]


def _edits(edits: list[dict[str, Any]]) -> str:
    sign = {"added": "+", "dropped": "-"}
    where = [f" (region {edit['region']})" if edit["region"] else "" for edit in edits]
    return ", ".join(sign[edit["change"]] + edit["word"] + at for edit, at in zip(edits, where, strict=True))


def _words(words: Mapping[str, float]) -> str:
    told = [f"{word} {weight:.2f}" for word, weight in list(words.items())[:_SHOWN] if abs(weight) >= _LEAST]
    return ", ".join(told) or "none"
