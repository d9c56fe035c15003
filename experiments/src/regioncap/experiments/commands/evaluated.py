"""What a command prints of scores that it has just taken."""

from rich.console import Console

from regioncap.experiments.measures_table import print_measures
from regioncap.experiments.metrics import Scores, measure_text
from regioncap.experiments.report import MetricSummary, StudyRow, print_table


def print_scores(scores: Scores, captioner: str, split: str) -> None:
    """A table of one row, what is measured beside it, and what makes its numbers mean less than they seem to."""
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
    measures = scores.measures
    texts = {name: measure_text(name, value) for name, value in measures.corpus.items()}
    print_measures({split: texts}, measures.missing, Console())
    for warning in (*scores.warnings, *measures.warnings):
        print(warning)
