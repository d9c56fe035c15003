"""Child process: the Penn Treebank tokenizer (CoreNLP 3.4.1) and METEOR 1.5 out of the pycocoevalcap wheel."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jpype

from regioncap.experiments.metrics.java_process import serve, start_java, wheel_folder

# The tokens that caption evaluation throws away (COCO caption evaluation, Chen et al. 2015, arXiv 1504.00325).
_PUNCTUATION = frozenset(["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"]) | frozenset(
    [".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
# Everything that the tokenizer takes for the end of a line would shift all captions after it.
_LINE_BREAKS = str.maketrans(dict.fromkeys("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))

_NORMALIZE_KEEP_PUNCTUATION = 2
"""METEOR's `-norm`. The other settings change the fourth digit."""


class MeteorService:
    """METEOR's tables take seconds to load, so they load in the background while captions are tokenized."""

    def __init__(self, heap_mb: int, work_folder: str) -> None:
        wheel = wheel_folder()
        start_java(
            [wheel / "meteor" / "meteor-1.5.jar", wheel / "tokenizer" / "stanford-corenlp-3.4.1.jar"],
            heap_mb=heap_mb,
            work_folder=work_folder,
        )
        self._scorer: Any = None
        self._failure: Exception | None = None
        self._loading = threading.Thread(target=self._load, daemon=True)
        self._loading.start()

    def tokenize(self, captions: Sequence[str]) -> list[str]:
        """Lower-case tokens without punctuation, joined by single spaces: pycocoevalcap's `PTBTokenizer`, in process.

        Departs from it in one thing: a caption with a line break inside stays one caption.
        """
        java = jpype.JPackage("java")
        text = "\n".join(caption.translate(_LINE_BREAKS) for caption in captions) + "\n"
        output = java.io.ByteArrayOutputStream()
        java.lang.System.setIn(java.io.ByteArrayInputStream(text.encode("utf-8", "replace")))
        stdout = java.lang.System.out
        stream = java.io.PrintStream(output, False, "UTF-8")
        java.lang.System.setOut(stream)
        try:
            jpype.JClass("edu.stanford.nlp.process.PTBTokenizer").main(["-preserveLines", "-lowerCase"])
        finally:
            stream.flush()
            java.lang.System.setOut(stdout)
        lines = bytes(output.toByteArray()).decode().split("\n")[:-1]
        if len(lines) != len(captions):
            raise ValueError(f"the tokenizer gave {len(lines)} lines for {len(captions)} captions")
        return [" ".join(word for word in line.rstrip().split(" ") if word not in _PUNCTUATION) for line in lines]

    def meteor(self, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> dict[str, Any]:
        """METEOR of tokenized captions: of the corpus (from summed statistics, not a mean) and of each image."""
        self._loading.join()
        if self._failure is not None:
            raise self._failure
        statistics = jpype.JClass("edu.cmu.meteor.scorer.MeteorStats")
        strings = jpype.JClass("java.util.ArrayList")
        total, per_image = statistics(), []
        for captions, candidate in zip(references, candidates, strict=True):
            one = self._scorer.getMeteorStats(candidate, strings(captions))
            self._scorer.computeMetrics(one)
            per_image.append(float(one.score))
            total.addStats(one)
        self._scorer.computeMetrics(total)
        return {"corpus": float(total.score), "per_image": per_image}

    def _load(self) -> None:
        try:
            configuration = jpype.JClass("edu.cmu.meteor.scorer.MeteorConfiguration")()
            configuration.setLanguage("en")
            configuration.setNormalization(_NORMALIZE_KEEP_PUNCTUATION)
            self._scorer = jpype.JClass("edu.cmu.meteor.scorer.MeteorScorer")(configuration)
        except Exception as error:  # reported by the call that needs the scorer
            self._failure = error


def _calls(heap_mb: int, work_folder: str) -> Mapping[str, Callable[..., Any]]:
    service = MeteorService(heap_mb, work_folder)
    return {"tokenize": service.tokenize, "meteor": service.meteor}


if __name__ == "__main__":
    serve(_calls)
