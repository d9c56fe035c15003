"""Child process: the tokenizer, METEOR and SPICE in one Java machine."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from regioncap.experiments.metrics.java_meteor import Meteor
from regioncap.experiments.metrics.java_process import serve, start_java, wheel_folder
from regioncap.experiments.metrics.java_spice import Spice
from regioncap.experiments.metrics.java_tokenizer import tokenize


class MetricService:
    """Each part is loaded when it is first needed: training, which asks for CIDEr alone, never loads METEOR."""

    def __init__(
        self, heap_mb: int, threads: int, spice_folder: str | None, store_folder: str, work_folder: str
    ) -> None:
        wheel = wheel_folder()
        # METEOR looks for its tables through the machine's own class path; SPICE is content with a loader's.
        start_java(
            [wheel / "meteor" / "meteor-1.5.jar", wheel / "tokenizer" / "stanford-corenlp-3.4.1.jar"],
            heap_mb=heap_mb,
            work_folder=work_folder,
        )
        self._threads, self._spice_folder = threads, spice_folder
        self._store_folder, self._work_folder = Path(store_folder), Path(work_folder)
        self._side = ThreadPoolExecutor(1, thread_name_prefix="beside")

    def prepare(self, metrics: Sequence[str]) -> None:
        """Begin to load what `metrics` need, without waiting for it."""
        if "METEOR" in metrics:
            self._meteor  # noqa: B018 - reading it starts the loading
        if "SPICE" in metrics:
            self._spice  # noqa: B018

    def tokenize(self, captions: Sequence[str]) -> list[str]:
        """See `java_tokenizer.tokenize`."""
        return tokenize(captions)

    def score(
        self, metrics: Sequence[str], references: Sequence[Sequence[str]], candidates: Sequence[str]
    ) -> dict[str, Any]:
        """METEOR and SPICE of a batch of images, side by side: each is slow and neither fills a machine."""
        spice = None
        if "SPICE" in metrics:
            spice = self._side.submit(self._spice.batch, references, candidates)
        answer: dict[str, Any] = {}
        if "METEOR" in metrics:
            answer["METEOR"] = self._meteor.batch(references, candidates)
        if spice is not None:
            answer["SPICE"] = spice.result()
            answer["problem"] = self._spice.problem
        return answer

    def meet(self, captions: Sequence[str]) -> None:
        """See `Meteor.meet`."""
        self._meteor.meet(captions)

    def meteor_corpus(self, statistics: Sequence[str]) -> float:
        """See `Meteor.corpus`."""
        return self._meteor.corpus(statistics)

    @cached_property
    def _meteor(self) -> Meteor:
        return Meteor(self._threads, self._store_folder, self._work_folder)

    @cached_property
    def _spice(self) -> Spice:
        if self._spice_folder is None:
            raise ValueError("SPICE was asked for without a folder with its models")
        return Spice(Path(self._spice_folder), self._store_folder, self._threads)


def _calls(**settings: Any) -> Mapping[str, Callable[..., Any]]:
    service = MetricService(**settings)
    return {
        "prepare": service.prepare,
        "tokenize": service.tokenize,
        "meet": service.meet,
        "score": service.score,
        "meteor_corpus": service.meteor_corpus,
    }


if __name__ == "__main__":
    serve(_calls)
