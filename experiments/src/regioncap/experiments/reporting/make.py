"""`regioncap report`: gather, and write page, Markdown and LaTeX."""

from dataclasses import dataclass
from pathlib import Path

from regioncap.experiments.reporting.content import gather
from regioncap.experiments.reporting.page import report_page
from regioncap.experiments.reporting.texts import report_latex, report_markdown
from regioncap.experiments.scoring.whole_file import check_target, write_whole


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What goes into a report, and where it goes."""

    out: Path
    """HTML file to write; Markdown (.md) and LaTeX (.tex, booktabs) are written beside it."""
    storage: str | None = None
    """Where an Optuna study is kept: a journal file or postgresql://USER@HOST/DATABASE. A folder of `regioncap tune`
    knows it, but for a password."""
    bench: Path | None = None
    """Folder of `regioncap bench run`, or its results.json: latency, memory and scale of the stages."""
    images: int = 100
    """Dev images at most in the gallery; 0 leaves it out."""
    seed: int = 0
    """Seed of the gallery's random share."""

    def __post_init__(self) -> None:
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"--out must be a file that ends in .html, got {self.out}")
        if self.images < 0:
            raise ValueError(f"--images must be at least 0, got {self.images}")

    @property
    def targets(self) -> tuple[Path, Path, Path]:
        """Page, Markdown, LaTeX."""
        return self.out, self.out.with_suffix(".md"), self.out.with_suffix(".tex")


def make_report(what: Path, options: ReportOptions) -> tuple[Path, Path, Path]:
    """Write the report of a folder or study; returns the files.

    Raises UnreachableError if it is not there, ValueError if it has nothing to tell.
    """
    for target in options.targets:
        check_target(target)
    report = gather(
        what,
        storage=options.storage,
        bench=options.bench,
        images=options.images,
        seed=options.seed,
    )
    texts = report_page(report), report_markdown(report), report_latex(report)
    for target, text in zip(options.targets, texts, strict=True):
        write_whole(target, text)
    return options.targets
