"""A study small enough for a test: scenes with encoders of almost no width, prepared once for all tests."""

import io
import json
import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.decoder import GatedWordBiasConfig, Gpt2DecoderConfig, SearchConfig, TokenPrefixConfig
from regioncap.encoders import (
    ClipHeadConfig,
    DetectorConfig,
    DetectorTrainingConfig,
    MeanMlpHeadConfig,
    SmallBertConfig,
    SmallTrunkConfig,
    load_detector,
)
from regioncap.experiments.arms import ARMS, RETRIEVAL
from regioncap.experiments.assemble import build_captioner
from regioncap.experiments.banks import KeywordBanksConfig
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.cli import main
from regioncap.experiments.config import Experiment, VocabularyConfig
from regioncap.experiments.data.dataset import CaptionData, CaptionedImage
from regioncap.experiments.data.scenes import KINDS, ScenesConfig, make_scenes
from regioncap.experiments.data.sources import ScenesSource, read_data
from regioncap.experiments.encoders import Encoders, ScenesEncodersSource
from regioncap.experiments.keywords.config import KeywordSupervisionConfig
from regioncap.experiments.metrics import METRICS, SUMMED, CaptionScorer, MetricsConfig, Scores
from regioncap.experiments.metrics.spice_models import missing_jars
from regioncap.experiments.prepare import Prepared, prepare
from regioncap.experiments.presets import scenes
from regioncap.experiments.scenes_alignment import AlignmentConfig
from regioncap.experiments.scenes_encoders import ScenesEncodersConfig, train_scenes_encoders
from regioncap.experiments.scores_file import SCORES, write_scores
from regioncap.experiments.study_file import write_study_file
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.phases import PhaseConfig
from regioncap.experiments.training.train import take_keyword_heads
from regioncap.experiments.worker import ArmJob, Message, run_arm
from regioncap.experiments.workers import ArmWorkers
from regioncap.graph import RegionGraphConfig
from regioncap.guidance import KeywordHeadsConfig, KeywordTrainingConfig, SemanticGuidanceConfig

TINY = ScenesConfig(train=24, val=8, test=4)

SPICE = Path(os.environ.get("REGIONCAP_SPICE") or Path(__file__).resolve().parents[3] / "shared" / "spice")
"""Where CoreNLP is looked for, for the tests of SPICE: a folder beside the checkout unless one is named."""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache and SPICE are not the tests' to fill or to depend on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGIONCAP_CACHE", str(tmp_path_factory.mktemp("user-cache")))
        patch.delenv("REGIONCAP_SPICE", raising=False)
        yield


@pytest.fixture(scope="session")
def spice_folder() -> Path:
    """A folder with CoreNLP's jars."""
    missing = missing_jars(SPICE)
    if missing:
        pytest.skip(f"SPICE is not tested: {SPICE} holds no {' and no '.join(missing)}; set REGIONCAP_SPICE")
    return SPICE


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def scenes_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes encoders after one step each. The detector's scores are spread, so that it finds several regions."""
    out = tmp_path_factory.mktemp("weights")
    train_scenes_encoders(
        ScenesEncodersConfig(
            out=out,
            scenes=ScenesConfig(train=8, val=4, test=1, seed=77),
            detector=DetectorConfig(
                classes=KINDS,
                image_size=64,
                trunk=SmallTrunkConfig(channels=8, blocks=0),
                head=MeanMlpHeadConfig(dim=16),
                proposals_before_nms=30,
                proposals=20,
            ),
            detector_training=DetectorTrainingConfig(steps=1, batch_size=2),
            bert=SmallBertConfig(layers=1, width=16, heads=2),
            head=ClipHeadConfig(layers=3, hidden=24),
            dim=32,
            alignment=AlignmentConfig(steps=1, batch_size=4),
        )
    )
    detector = load_detector(out)
    predictor = detector.model.roi_heads.box_predictor.cls_score
    with torch.no_grad():
        predictor.weight.mul_(60.0)
        predictor.bias[0] = -30.0  # hardly anything is background
        predictor.bias[1:] = torch.linspace(0, 6, len(KINDS))  # and some class is always likely enough
    detector.save(out)
    return out


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_scenes(TINY, tmp_path_factory.mktemp("data") / "scenes").root


@pytest.fixture(scope="session")
def tiny(scenes_weights: Path, scenes_root: Path) -> Experiment:
    """The scenes preset with every width cut down."""
    return replace(
        scenes(),
        data=ScenesSource(root=scenes_root, scenes=TINY),
        encoders=ScenesEncodersSource(weights=scenes_weights),
        dim=32,
        vocabulary=VocabularyConfig(min_count=1, max_tokens=24),
        banks=KeywordBanksConfig(min_count=2, max_scene=8, max_detail=20),
        graph=RegionGraphConfig(k=2, metric="spatial", layers=1, heads=2),
        keywords=KeywordSupervisionConfig(
            training=KeywordTrainingConfig(heads=KeywordHeadsConfig(hidden=16), epochs=1, batch_size=8, folds=2)
        ),
        guidance=SemanticGuidanceConfig(retrieval="learned", scene_words=2, detail_words=2, keywords=3),
        prefix=TokenPrefixConfig(tokens=2, hidden=32, kinds=("regions", "scene", "keywords")),
        decoder=Gpt2DecoderConfig(
            layers=1, heads=2, width=32, positions=64, dropout=0.0, word_bias=GatedWordBiasConfig()
        ),
        phase1=PhaseConfig(share=0.5),
        phase2=PhaseConfig(share=0.5, clip_layers=2),
        train=TrainConfig(steps=4, images_per_step=4, evaluations=1, evaluation_images=4),
        search=SearchConfig(greedy_tokens=1, beams=2, max_new_tokens=8),
    )


@pytest.fixture(scope="session")
def data(tiny: Experiment, cache: Path) -> CaptionData:
    return read_data(tiny.data, cache)


@pytest.fixture(scope="session")
def built(tiny: Experiment) -> Encoders:
    return tiny.encoders.build()


@pytest.fixture(scope="session")
def prepared(tiny: Experiment, data: CaptionData, built: Encoders, cache: Path) -> Prepared:
    return prepare(tiny, data, built, cache)


@pytest.fixture(scope="session")
def captions(prepared: Prepared) -> Sequence[str]:
    """All training captions, in order."""
    return [caption for image in prepared.train_images for caption in image.captions]


@pytest.fixture(scope="session")
def make_captioner(tiny: Experiment, prepared: Prepared) -> Callable[[str], Captioner]:
    """A fresh captioner of an arm, in evaluation mode, its keyword statistics fitted as training does."""

    def make(arm: str) -> Captioner:
        captioner = build_captioner(
            ARMS[arm].make(tiny),
            region_dim=prepared.train.region_dim,
            text_dim=prepared.text_dim,
            clip_head=prepared.clip_head,
            tokenizer=prepared.tokenizer,
            scene_bank=prepared.scene_bank,
            detail_bank=prepared.detail_bank,
        ).eval()
        pooled = prepared.train.images(torch.arange(len(prepared.train))).pooled
        with torch.no_grad():
            take_keyword_heads(captioner, prepared)
            captioner.guidance.calibrate(captioner.embed_image(pooled, prepared.offsets), prepared.shares)
        return captioner

    return make


@pytest.fixture(scope="session")
def flags(scenes_root: Path, scenes_weights: Path, cache: Path) -> list[str]:
    """What makes `ablate scenes` and `train scenes` as small as `tiny`."""
    values: dict[str, object] = {
        "data.root": scenes_root,
        "encoders.weights": scenes_weights,
        "cache": cache,
        "dim": 32,
        "vocabulary.min-count": 1,
        "banks.min-count": 2,
        "graph.layers": 1,
        "graph.heads": 2,
        "prefix.hidden": 32,
        "decoder.layers": 1,
        "decoder.heads": 2,
        "decoder.width": 32,
        "train.steps": 8,
        "train.images-per-step": 4,
        "train.evaluations": 2,
        "train.evaluation-images": 4,
        "search.max-new-tokens": 8,
    }
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


class InProcess(ArmWorkers):
    """A study's workers without processes of their own, each of which would import for seconds."""

    def __iter__(self) -> Iterator[tuple[ArmJob, Message | None]]:
        for job in self._waiting:
            yield job, None
            ours, theirs = multiprocessing.Pipe(duplex=False)
            run_arm(job, theirs)
            theirs.close()
            while ours.poll():
                try:
                    yield job, ours.recv()
                except EOFError:
                    break


class KeptScorer(CaptionScorer):
    """Loading METEOR takes seconds: one serves all commands, and its fixture closes it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def assert_one_line(self, *parts: str, status: int = 1) -> None:
        """A status, and one line on stderr that says all of this."""
        assert self.status == status
        (line,) = self.err.splitlines()
        assert line.startswith("regioncap: ")
        assert "Traceback" not in self.out
        for part in parts:
            assert part in line


@pytest.fixture(scope="session")
def scorer() -> Iterator[CaptionScorer]:
    """A scorer without SPICE, loaded once for all tests."""
    scorer = KeptScorer()
    yield scorer
    scorer.close()


@pytest.fixture(scope="session")
def command(scorer: CaptionScorer) -> Callable[..., Outcome]:
    """`regioncap ...` in this process."""
    build = MetricsConfig.build

    def run(*arguments: object, workers: type[ArmWorkers] = InProcess) -> Outcome:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
            patch.setattr(MetricsConfig, "build", lambda self: build(self) if self.spice_folder else scorer)
            patch.setattr("regioncap.experiments.study.ArmWorkers", workers)
            patch.setattr("regioncap.experiments.worker.signal.signal", lambda *arguments: None)
            patch.setenv("COLUMNS", "200")
            with redirect_stderr(io.StringIO()) as err:
                try:
                    status = main([str(argument) for argument in arguments])
                except SystemExit as error:
                    status = error.code if isinstance(error.code, int) else 0
        return Outcome(status=status, out=out.getvalue(), err=err.getvalue())

    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the folders of studies. They share its MLflow store, which takes seconds to make."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def trained(command: Callable[..., Outcome], flags: list[str], runs: Path) -> tuple[Outcome, Path]:
    """`regioncap train scenes`: what it said, and its folder."""
    out = runs / "trained"
    return command("train", "scenes", "--out", out, *flags), out


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in Flickr8k's layout: twelve JPEGs of many sizes. Not to be changed: copy it."""
    root = tmp_path_factory.mktemp("photographs") / "flickr"
    (root / "images").mkdir(parents=True)
    colours = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (40, 60, 200), "white": (240, 240, 240)}
    lines = []
    for i in range(12):
        name = f"{1000 + i}_photo.jpg"
        colour = list(colours)[i % 4]
        picture = Image.effect_noise((90 + 7 * i, 120 - 5 * i), 40).convert("RGB")
        picture.paste(colours[colour], (5, 5, 40 + 3 * i, 45))
        picture.save(root / "images" / name)
        lines += [f"{name}#{c}\tA {colour} dog runs on the beach {c} ." for c in range(5)]
    (root / "captions.txt").write_text("\n".join(lines) + "\n")
    for split, rows in (("train", range(6)), ("dev", range(6, 9)), ("test", range(9, 12))):
        (root / f"{split}.txt").write_text("".join(f"{1000 + i}_photo.jpg\n" for i in rows))
    return root


class Browser:
    """Headless Chromium, spoken to through the DevTools protocol over pipes."""

    def __init__(self, program: str, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        flags = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run"
        line = f'exec "$0" {flags} --user-data-dir="$1" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, str(profile)],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._answers = os.fdopen(self._read, "rb")
        self._number = 0
        self._events: list[Any] = []
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(request).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._events.append(answer)

    def open(self, page: Path, width: int, scheme: str = "light") -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        self._events.clear()
        own = self.call("Page.navigate", url=page.as_uri())["loaderId"]
        # Of this very document: one opened before may still be telling that it is there.
        loaded = {"loaderId": own, "name": "load"}
        while not any(loaded.items() <= event.get("params", {}).items() for event in self._events):
            self._events.append(self._message())
        # Charts paint themselves once they are laid out, a frame after the document is there.
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 0)")

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        os.close(self._write)

    def _message(self) -> Any:
        text = bytearray()
        while (sign := self._answers.read(1)) != b"\0":
            assert sign, "the browser went away"
            text += sign
        return json.loads(text)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on PATH to open the page with")
    browser = Browser(program, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def invent_runs() -> Callable[..., Path]:
    """Writes the folder of a study whose captions are invented and whose scores are random; nothing is trained."""
    return _invent_runs


def _invent_runs(
    folder: Path,
    arms: Mapping[str, float],
    *,
    seeds: int = 2,
    images: int = 12,
    floor: bool = True,
    told: bool = True,
    absent: Sequence[str] = ("SPICE",),
) -> Path:
    """`arms` maps names to how much they gain; with `told` there is a study file with references and photographs."""
    generator = np.random.default_rng(len(arms))
    names = [f"{index}.jpg" for index in range(images)]
    words = ["a", "dog", "cat", "man", "runs", "sits", "on", "the", "grass", "beach"]
    base = {metric: generator.uniform(0.1, 0.6, images) for metric in METRICS if metric not in {"SUM", *absent}}

    def write(place: Path, gain: float) -> None:
        columns = {metric: values + gain + generator.normal(0, 0.02, images) for metric, values in base.items()}
        columns["SUM"] = np.sum([columns[metric] for metric in SUMMED if metric in columns], axis=0)
        scores = Scores(
            corpus={metric: float(columns[metric].mean()) for metric in METRICS if metric in columns},
            per_image={
                name: {metric: float(columns[metric][at]) for metric in METRICS if metric in columns}
                for at, name in enumerate(names)
            },
            missing=dict.fromkeys(absent, "no jars"),
        )
        place.mkdir(parents=True)
        write_scores(place / SCORES, scores, {name: " ".join(generator.choice(words, size=6)) for name in names})

    if floor:
        write(folder / RETRIEVAL, -0.05)
    for arm, gain in arms.items():
        for seed in range(seeds):
            write(folder / arm / f"seed{seed}", gain)
    if told:
        photographs = folder.parent / f"{folder.name}-photographs"
        photographs.mkdir()
        for index, name in enumerate(names):
            Image.new("RGB", (90, 60 + 5 * index), (200, 20 * (index % 12), 60)).save(photographs / name)
        references = ("a dog runs on the beach", "the man sits on grass")
        told_images = [CaptionedImage(name=name, path=photographs / name, captions=references) for name in names]
        write_study_file(folder, title="Ablation study on scenes: invented", preset="scenes", images=told_images)
    return folder
