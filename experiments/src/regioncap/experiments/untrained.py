"""The rows of a table that train nothing: what any captioner has to beat, and what one that goes on began with."""

from collections.abc import Iterator

from regioncap.experiments.arms import BEFORE, RETRIEVAL
from regioncap.experiments.checkpoint import load_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.generate import generate_over
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.retrieval import retrieve


def untrained_captions(base: Experiment, prepared: Prepared) -> Iterator[tuple[str, dict[str, str]]]:
    """Row -> caption of every dev image: retrieval by g and, for a run that goes on from a checkpoint, that one's.

    The checkpoint searches as the experiment does, so that nothing but training is between it and the run.
    """
    yield RETRIEVAL, retrieve(prepared)
    if base.init_from is not None:
        checkpoint = load_checkpoint(base.init_from)
        parts = generate_over(checkpoint.captioner, prepared.dev, checkpoint.tokenizer, base.search)
        texts = [text for part in parts for text in part.texts]
        yield BEFORE, dict(zip(prepared.dev.names, texts, strict=True))
