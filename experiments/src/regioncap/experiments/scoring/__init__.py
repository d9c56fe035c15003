"""Anybody's caption files scored: `regioncap score`, and the same from Python."""

from regioncap.experiments.scoring.compare import Comparison, System, compare
from regioncap.experiments.scoring.formats import CaptionFileError
from regioncap.experiments.scoring.measured import Measured
from regioncap.experiments.scoring.read import CaptionSets, read_captions

__all__ = ["CaptionFileError", "CaptionSets", "Comparison", "Measured", "System", "compare", "read_captions"]
