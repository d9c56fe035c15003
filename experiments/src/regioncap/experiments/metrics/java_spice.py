"""SPICE 1.0 (Anderson et al. 2016, arXiv 1607.08822) out of the pycocoevalcap wheel, with CoreNLP 3.6.0 from a folder.

SPICE is called through its classes: its command line asks for a JavaScript engine that current Java lacks, and its
data base of parses for native code and for packages that current Java has closed.
"""

import json
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import jpype

from regioncap.experiments.metrics.java_process import isolated_loader, wheel_folder
from regioncap.experiments.metrics.parse_store import ParseStore, Tuples
from regioncap.experiments.metrics.spice_models import spice_jars

PARTS = {
    "Object": "objectFilter",
    "Attribute": "attributeFilter",
    "Relation": "relationFilter",
    "Color": "colorFilter",
    "Count": "cardinalityFilter",
    "Size": "sizeFilter",
}
"""Kinds of tuples that SPICE also scores apart -> its filter of that kind."""

_PARSED_AT_ONCE = 100
"""Captions parsed between two writes of the store: what a killed process loses."""

_PARSER = "edu/stanford/nlp/models/lexparser/englishPCFG.ser.gz"
"""The member of the models' jar that decides what a parse is."""


class Spice:
    """SPICE with its parses kept. CoreNLP's parser takes two seconds to load, in the background from the start."""

    def __init__(self, spice_folder: Path, store_folder: Path, threads: int) -> None:
        wheel = wheel_folder() / "spice"
        models = spice_jars(spice_folder)
        self._threads = threads
        self._loader = isolated_loader([wheel / "spice-1.0.jar", *sorted((wheel / "lib").glob("*.jar")), *models])
        # A captioner's captions are seldom known; where they are, nobody waits for the parser.
        Thread(target=lambda: self._parser_with_pipeline, name="spice-parser", daemon=True).start()
        self._store = ParseStore(store_folder / f"parses-{_fingerprint(models[1])}.sqlite")

    @property
    def problem(self) -> str | None:
        """Why parses are not kept, None if they are."""
        return self._store.problem

    def batch(self, references: Sequence[Sequence[str]], candidates: Sequence[str]) -> list[dict[str, float]]:
        """F of each image's tokenized caption: `All`, and each of `PARTS` of which the references have a tuple.

        SPICE of a set is the mean of `All`. No tuples on a side: 0.
        """
        parses = self._parses([*candidates, *(caption for group in references for caption in group)])
        filters = jpype.JClass("java.util.HashMap")()
        kinds = self._class("edu.anu.spice.TupleFilter")
        for part, name in PARTS.items():
            filters.put(part, getattr(kinds, name))
        statistics = self._class("edu.anu.spice.SpiceStats")(filters, False)
        for number, (group, candidate) in enumerate(zip(references, candidates, strict=True)):
            tested, truth = self._scene([parses[candidate]]), self._scene([parses[caption] for caption in group])
            statistics.score(str(number), tested, truth, True)
        images = json.loads(str(statistics.toJSONString()))
        return [
            {kind: score["f"] for kind, score in image["scores"].items() if score["f"] is not None} for image in images
        ]

    def _parses(self, captions: Sequence[str]) -> dict[str, Tuples]:
        known = self._store.get(captions)
        unknown = [caption for caption in dict.fromkeys(captions) if caption not in known]
        for start in range(0, len(unknown), _PARSED_AT_ONCE):
            new = self._parse(unknown[start : start + _PARSED_AT_ONCE])
            self._store.put(new)
            known |= new
        return known

    def _parse(self, captions: Sequence[str]) -> dict[str, Tuples]:
        """What SPICE's parser reads out of captions: its own method, which keeps to itself what it returns."""
        generate = self._parser.getClass().getDeclaredMethod("generateTuples", jpype.JClass("java.util.List").class_)
        generate.setAccessible(True)
        tuples = generate.invoke(self._parser_with_pipeline, jpype.JClass("java.util.ArrayList")(captions))
        parses: dict[str, Tuples] = json.loads(str(self._class("org.json.simple.JSONValue").toJSONString(tuples)))
        return parses

    def _scene(self, parses: Sequence[Tuples]) -> Any:
        """The scene graph of captions together. Java reads the tuples from text: one call instead of one per word."""
        scene = self._class("edu.anu.spice.SceneGraph")(_private(self._parser, "synonyms"), True)
        tuples = [words for caption in parses for words in caption]
        for words in self._class("org.json.simple.JSONValue").parse(json.dumps(tuples)):
            scene.addTuple(words)
        return scene

    @cached_property
    def _parser(self) -> Any:
        """SPICE's parser, with its synonyms, but without CoreNLP's: known captions do not need that."""
        return self._class("edu.anu.spice.SpiceParser")(None, self._threads, True)

    @cached_property
    def _parser_with_pipeline(self) -> Any:
        """The same with CoreNLP's pipeline as SPICE sets it up, less the entity tags, which nothing in SPICE reads."""
        properties = jpype.JClass("java.util.Properties")()
        properties.setProperty("annotators", "tokenize,ssplit,parse,lemma")
        properties.setProperty("depparse.extradependencies", "MAXIMAL")
        properties.setProperty("threads", str(self._threads))
        pipeline = self._class("edu.stanford.nlp.pipeline.StanfordCoreNLP")(properties)
        annotator = _private(self._parser, "annotator")
        field = annotator.getClass().getDeclaredField("pipeline")
        field.setAccessible(True)
        field.set(annotator, pipeline)
        return self._parser

    def _class(self, name: str) -> Any:
        # CoreNLP looks for its models through the calling thread.
        jpype.JClass("java.lang.Thread").currentThread().setContextClassLoader(self._loader)
        return jpype.JClass(name, loader=self._loader)


def _private(owner: Any, name: str) -> Any:
    field = owner.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field.get(owner)


def _fingerprint(models: Path) -> str:
    """Checksum of the parser's grammar: parses of another grammar are kept apart."""
    with zipfile.ZipFile(models) as jar:
        return f"{jar.getinfo(_PARSER).CRC:08x}"
