"""What a command prints of scores that it has just taken."""

from regioncap.experiments.metrics import Scores
from regioncap.experiments.report import MetricSummary, StudyRow, print_table


def print_scores(scores: Scores, captioner: str, split: str) -> None:
    """A table of one row, then what makes its numbers mean less than they seem to."""
    row = StudyRow(
        arm=split,
        seeds=1,
        metrics={name: MetricSummary.of([value]) for name, value in scores.corpus.items()},
        p=None,
        parameters=0,
        train_cpu_s=0.0,
        missing=scores.missing,
    )
    print_table([row], f"{captioner}: {len(scores.per_image)} images")
    for warning in scores.warnings:
        print(warning)
