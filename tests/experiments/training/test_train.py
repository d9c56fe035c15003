import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from regioncap.encoders import ImageFeatures, images
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner, Condition, HeldOut
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.sources import ScenesSource, read_data
from regioncap.experiments.encoders import Encoders
from regioncap.experiments.generate import generate_over
from regioncap.experiments.metrics import CaptionScorer, Scores
from regioncap.experiments.prepare import Prepared, prepare
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.phases import PhaseConfig
from regioncap.experiments.training.train import train
from regioncap.guidance import Steering

Points = list[tuple[int, dict[str, float]]]


class NoScorer(CaptionScorer):
    """Where the curve's values do not matter: CIDEr as a function of nothing."""

    def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
        return Scores(corpus={"CIDEr": 0.0}, per_image={}, missing={})


def run(
    experiment: Experiment, prepared: Prepared, scorer: CaptionScorer | None = None, **arguments: Any
) -> tuple[dict[str, torch.Tensor], Points]:
    """Weights after training, and what was reported on the way."""
    points: Points = []

    def report(step: int, values: Mapping[str, float]) -> None:
        points.append((step, dict(values)))

    trained = train(experiment, prepared, scorer or NoScorer(), report, **arguments)
    return {name: tensor.clone() for name, tensor in trained.captioner.state_dict().items()}, points


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_seed_decides_the_outcome(tiny: Experiment, prepared: Prepared) -> None:
    first, _ = run(tiny, prepared)
    torch.rand(11)
    assert same(first, run(tiny, prepared)[0])
    assert not same(first, run(replace(tiny, seed=1), prepared)[0])


BASE = TrainConfig(
    steps=20, images_per_step=4, captions_per_image=2, evaluations=2, evaluation_images=4, warmup=1, lr=1e-2
)


@pytest.fixture(scope="module")
def base(tiny: Experiment) -> Experiment:
    """Small enough for many runs."""
    return replace(ARMS["clipcap"].make(tiny), train=BASE)


@pytest.fixture(scope="module")
def outcome(base: Experiment, prepared: Prepared) -> tuple[dict[str, torch.Tensor], Points]:
    return run(base, prepared)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 21},
        {"images_per_step": 3},
        {"captions_per_image": 1},
        {"lr": 2e-2},
        {"schedule": "step"},
        {"warmup": 2},
        {"weight_decay": 0.5},
        {"clip_norm": 0.01},
        {"ema": 0.5},
    ],
)
def test_every_setting_of_training_is_heeded(
    base: Experiment, prepared: Prepared, outcome: tuple[dict[str, torch.Tensor], Points], change: dict[str, Any]
) -> None:
    assert not same(outcome[0], run(replace(base, train=replace(BASE, **change)), prepared)[0])


@pytest.mark.usefixtures("bfloat16")
def test_half_precision_is_heeded(base: Experiment, prepared: Prepared) -> None:
    half, _ = run(base, prepared)
    assert not same(half, run(replace(base, train=replace(BASE, precision="fp32")), prepared)[0])


@pytest.mark.filterwarnings("ignore:this cpu has no bfloat16")
def test_half_precision_is_float32_on_a_processor_without_it(
    base: Experiment, prepared: Prepared, processor: Callable[[bool], None]
) -> None:
    processor(False)
    half, _ = run(base, prepared)
    assert same(half, run(replace(base, train=replace(BASE, precision="fp32")), prepared)[0])


def test_phases_are_heeded(base: Experiment, prepared: Prepared, make_captioner: Callable[[str], Captioner]) -> None:
    still, _ = run(replace(base, phase1=PhaseConfig(share=1.0, decoder=False), phase2=PhaseConfig(share=0.0)), prepared)
    fresh = make_captioner("clipcap").state_dict()
    for name, tensor in still.items():
        if name.startswith(("decoder.", "clip_head.")):
            assert torch.equal(tensor, fresh[name]), name
    moving, _ = run(
        replace(base, phase1=PhaseConfig(share=0.0), phase2=PhaseConfig(share=1.0, clip_layers=1)), prepared
    )
    moved = {name for name, tensor in moving.items() if not torch.equal(tensor, fresh[name])}
    assert {name for name in moved if name.startswith("clip_head.")} == {
        "clip_head.image_layers.2.weight",
        "clip_head.image_layers.2.bias",
    }
    assert any(name.startswith("decoder.") for name in moved)


def test_dev_is_evaluated_at_even_distances_and_at_the_end(
    base: Experiment, prepared: Prepared, outcome: tuple[dict[str, torch.Tensor], Points]
) -> None:
    evaluated = [step for step, values in outcome[1] if "dev.cider" in values]
    assert evaluated == [10, 20]
    other = run(replace(base, train=replace(BASE, evaluations=4, evaluation_images=2)), prepared)
    assert [step for step, values in other[1] if "dev.cider" in values] == [5, 10, 15, 20]
    assert same(outcome[0], other[0])  # looking changes nothing
    assert all(values["dev.distinct"] in (0.5, 1.0) for _, values in other[1] if "dev.distinct" in values)


def test_curve_has_the_scorers_cider_of_greedy_captions(base: Experiment, prepared: Prepared) -> None:
    asked: list[tuple[Any, Any, Any]] = []

    class Spy(CaptionScorer):
        def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
            asked.append((references, candidates, *arguments))
            return Scores(corpus={"CIDEr": len(asked) / 8}, per_image={}, missing={})

    points: Points = []

    def report(step: int, values: Mapping[str, float]) -> None:
        points.append((step, dict(values)))

    captioner = train(base, prepared, Spy(), report).captioner
    assert [(step, values["dev.cider"]) for step, values in points if "dev.cider" in values] == [
        (10, 1 / 8),
        (20, 2 / 8),
    ]
    parts = generate_over(
        captioner, prepared.dev, prepared.tokenizer, replace(base.search, beams=1), rows=torch.arange(4)
    )
    images = prepared.dev_images[:4]
    texts = [text for part in parts for text in part.texts]
    assert asked[-1] == (
        {image.name: image.captions for image in images},
        {image.name: text for image, text in zip(images, texts, strict=True)},
        ("CIDEr",),
    )


def test_curve_of_a_single_image_is_refused(base: Experiment, prepared: Prepared) -> None:
    with pytest.raises(ValueError, match=r"two dev images or more.*, got 1: raise train\.evaluation_images"):
        run(replace(base, train=replace(BASE, evaluation_images=1)), prepared)


def test_curve_holds_every_term_of_the_loss_and_the_gates(tiny: Experiment, prepared: Prepared) -> None:
    _, points = run(replace(tiny, train=replace(tiny.train, steps=20)), prepared)
    (values,) = [values for step, values in points if step == 20 and "loss.total" in values]
    config = tiny.objective
    total = values["loss.generation"] + config.alpha1 * values["loss.alignment"] + config.alpha2 * values["loss.gate"]
    assert values["loss.total"] == pytest.approx(total, rel=1e-3)
    assert values["gradient_norm"] > 0
    assert values["images_per_cpu_s"] > 0
    assert any("gate" in name and not name.startswith("loss") for name in values)


def test_parameters_are_those_that_train_in_either_phase(tiny: Experiment, prepared: Prepared) -> None:
    trained = train(tiny, prepared, NoScorer())
    frozen = ("clip_head.log_scale", "clip_head.text_projection", "clip_head.image_layers.0", "keyword_heads.")
    counted = sum(p.numel() for name, p in trained.captioner.named_parameters() if not name.startswith(frozen))
    assert trained.parameters == counted
    assert trained.cpu_s > 0
    assert not trained.captioner.training


def test_language_weights_are_where_the_decoder_starts(base: Experiment, prepared: Prepared) -> None:
    decoder = train(replace(base, train=replace(BASE, steps=1)), prepared, NoScorer()).captioner.decoder
    language = {name: torch.full_like(tensor, 0.01) for name, tensor in decoder.state_dict().items()}
    frozen = replace(base, phase1=PhaseConfig(share=1.0, decoder=False), phase2=PhaseConfig(share=0.0))
    found, _ = run(frozen, prepared, language=language)
    assert all(torch.equal(found[f"decoder.{name}"], tensor) for name, tensor in language.items())


def test_training_images_get_their_offset_and_dev_images_none(
    base: Experiment, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = torch.randn(prepared.offsets.shape, generator=torch.Generator().manual_seed(0))
    pooled = prepared.train.pooled()
    seen: list[bool] = []
    condition = Captioner.condition

    def spy(
        self: Captioner, images: ImageFeatures, held_out: HeldOut | None = None, steering: Steering | None = None
    ) -> Condition:
        seen.append(self.training)
        assert (held_out is not None) == self.training
        for b, image in enumerate(images.pooled):
            row = (pooled == image).all(dim=1).nonzero()
            assert len(row) == (1 if self.training else 0)
            assert held_out is None or torch.equal(held_out.offset[b], offsets[int(row)])
        return condition(self, images, held_out, steering)

    monkeypatch.setattr(Captioner, "condition", spy)
    run(base, replace(prepared, offsets=offsets))
    assert seen.count(True) == 20
    assert seen.count(False) == 6  # at both evaluations: for captions, and for losses with two images


def test_test_pictures_are_never_opened(
    tiny: Experiment, built: Encoders, scenes_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every test picture unreadable, or gone, reading, preparing and training go on as before."""
    root = Path(shutil.copytree(scenes_root, tmp_path / "scenes"))
    first, *rest = sorted((root / "images" / "test").iterdir())
    first.unlink()
    for picture in rest:
        picture.write_bytes(b"")
    opened: list[Path] = []
    decode = images._open

    def spy(path: Path) -> Image.Image:
        opened.append(path)
        return decode(path)

    monkeypatch.setattr(images, "_open", spy)
    prepared = prepare(tiny, read_data(ScenesSource(root=root), tmp_path), built, tmp_path)
    train(replace(tiny, train=replace(tiny.train, steps=2)), prepared, NoScorer())
    ours = [path for path in opened if root in path.parents]  # the encoder's fingerprint opens pictures of its own
    assert {path.parent.name for path in ours} == {"train", "val"}
    assert len(ours) == 32
