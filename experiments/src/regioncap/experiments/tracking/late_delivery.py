"""Delivering an outbox without its study: MLflow was away when it ended, or it was killed."""

from collections.abc import Sequence
from pathlib import Path

from regioncap.experiments.tracking.delivery import Delivery
from regioncap.experiments.tracking.outbox import Outbox
from regioncap.experiments.tracking.tracker import OUTBOX, PATIENCE_S


def undelivered(home: Path) -> list[tuple[Path, int]]:
    """Studies under `home` of which MLflow lacks something, and how many entries."""
    found = []
    for folder in sorted(home.iterdir()):
        if Outbox.is_in(folder / OUTBOX):
            outbox = Outbox(folder / OUTBOX)
            count = outbox.waiting() + len(outbox.refused())
            outbox.close()
            if count:
                found.append((folder, count))
    return found


def deliver(folder: Path, patience_s: float = PATIENCE_S) -> Sequence[str]:
    """Deliver what a study has left, and say how much; returns the problems, a line each.

    Raises ValueError if there is no study, UnreachableError if the store does not answer.
    """
    if not Outbox.is_in(folder / OUTBOX):
        raise ValueError(f"{folder} holds no study with an outbox: name a folder that --out named")
    outbox = Outbox(folder / OUTBOX)
    about, left = outbox.about, outbox.waiting() + len(outbox.refused())
    delivery = Delivery(outbox, folder.resolve().parent, about["experiment"], about["description"])
    delivery.connect()
    delivery.start()
    try:
        delivery.finish(patience_s)
    finally:
        delivery.close()
    waiting, refused = outbox.waiting(), outbox.refused()
    print(
        f"{folder}: {left - waiting - len(refused)} of {left} entries delivered to {outbox.about['store']}", flush=True
    )
    problems = [f"{folder}: MLflow refuses what is to be logged of {run!r}: {why}" for run, why in refused]
    if waiting:
        problems.append(f"{folder}: MLflow took nothing for {patience_s:.0f} s, {waiting} entries are left: call again")
    return problems
