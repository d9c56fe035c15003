"""The loop: parts of a batch, averages, early stops, what is kept, and going on after an end."""

import math
import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regioncap.encoders import ImageFeatures
from regioncap.encoders.store import FeatureStore
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.metrics import CaptionScorer, Scores
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.engine import Keeping, Trained
from regioncap.experiments.training.failures import TrainingStopped, memory_advice
from regioncap.experiments.training.objectives.caption import CaptionObjectiveConfig
from regioncap.experiments.training.phases import PhaseConfig
from regioncap.experiments.training.state import StateError, load_state, save_state
from regioncap.experiments.training.train import fresh_captioner, train

Points = list[tuple[int, dict[str, float]]]
CLOCKED = ("images_per_s", "images_per_cpu_s", "memory_mb")


class Said(CaptionScorer):
    """A dev CIDEr that is what a test says, evaluation by evaluation; 0 after that."""

    def __init__(self, *cider: float) -> None:
        self.cider = list(cider)

    def score(self, references: Any, candidates: Any, *arguments: Any, **settings: Any) -> Scores:
        return Scores(corpus={"CIDEr": self.cider.pop(0) if self.cider else 0.0}, per_image={}, missing={})


class Ended(Exception):
    """What ends a training from outside."""


@pytest.fixture(scope="module")
def base(tiny: Experiment) -> Experiment:
    """The full captioner, with dropout, through both phases."""
    return replace(
        tiny,
        decoder=replace(tiny.decoder, dropout=0.2),
        train=TrainConfig(
            steps=24, images_per_step=4, captions_per_image=2, evaluations=3, evaluation_images=4, lr=1e-2, save_every=5
        ),
    )


@pytest.fixture(scope="module")
def whole(base: Experiment, prepared: Prepared) -> Trained:
    """Uninterrupted."""
    return train(base, prepared, Said(0.1, 0.3, 0.2))


def weights(trained: Trained) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trained.captioner.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def curve(trained: Trained) -> list[dict[str, float]]:
    """All that was reported, but for what a clock says."""
    return [{name: value for name, value in point.items() if name not in CLOCKED} for point in trained.history]


def keep(folder: Path, key: str = "a", **arguments: Any) -> Keeping:
    return Keeping(state=folder / "training" / "state.pt", key=key, **arguments)


@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulated_parts_learn_what_one_batch_does(tiny: Experiment, prepared: Prepared, accumulate: int) -> None:
    """Whatever the parts: captions of unlike length, images of unlike many regions."""
    settings = TrainConfig(
        steps=20, images_per_step=8, evaluations=1, evaluation_images=4, precision="fp32", lr=1e-3, captions_per_image=3
    )
    tiny = replace(tiny, adapter=replace(tiny.adapter, dropout=0.0))  # parts would draw other masks
    at_once = train(replace(tiny, train=settings), prepared, Said())
    in_parts = train(replace(tiny, train=replace(settings, accumulate=accumulate)), prepared, Said())
    for one, other in zip(curve(at_once), curve(in_parts), strict=True):
        for name, value in one.items():
            if name.startswith(("loss.", "gradient_norm", "lr.", "dev.")):
                assert other[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
        assert set(other) == set(one)


def test_more_parts_than_images_are_refused(tiny: Experiment, prepared: Prepared) -> None:
    settings = replace(tiny.train, images_per_step=30, accumulate=30)  # there are 24 training images
    with pytest.raises(ValueError, match=r"24 images cannot be shared by 1 processes with 30 parts each"):
        train(replace(tiny, train=settings), prepared, Said())


def test_average_is_that_of_the_formula(base: Experiment, prepared: Prepared) -> None:
    """theta' <- d theta' + (1 - d) theta, d = min(decay, (1 + n) / (10 + n)), along the path of a run without it."""
    path: list[dict[str, Tensor]] = []
    config = replace(base.train, steps=4, evaluations=4, keep="last")

    def watch(step: int, captioner: Captioner, generated: Any) -> None:
        path.append({name: parameter.detach().clone() for name, parameter in captioner.named_parameters()})

    train(replace(base, train=config), prepared, Said(), watch=watch)
    averaged = train(replace(base, train=replace(config, ema=0.15)), prepared, Said()).captioner
    wanted = path[0]
    for n, current in enumerate(path[1:], start=1):
        decay = min(0.15, (1 + n) / (10 + n))
        wanted = {name: decay * wanted[name] + (1 - decay) * current[name] for name in wanted}
    for name, parameter in averaged.named_parameters():
        torch.testing.assert_close(parameter.detach(), wanted[name], rtol=1e-4, atol=1e-6)


def test_training_stops_when_dev_gets_no_better(base: Experiment, prepared: Prepared) -> None:
    config = replace(base.train, evaluations=12, patience=2)
    trained = train(replace(base, train=config), prepared, Said(0.1, 0.2, 0.2, 0.15))
    assert trained.steps == 8  # of evaluations at 2, 4, 6 and 8, the second was the best


def test_best_weights_are_the_result_where_they_are_asked_for(base: Experiment, prepared: Prepared) -> None:
    seen: list[dict[str, Tensor]] = []

    def watch(step: int, captioner: Captioner, generated: Any) -> None:
        seen.append({name: tensor.clone() for name, tensor in captioner.state_dict().items()})

    best = train(replace(base, train=replace(base.train, keep="best")), prepared, Said(0.1, 0.3, 0.2), watch=watch)
    assert same(weights(best), seen[1])
    assert not same(seen[1], seen[2])
    assert not best.captioner.training


def test_last_and_best_are_written_as_they_come(base: Experiment, prepared: Prepared, tmp_path: Path) -> None:
    written: list[str] = []
    keeping = keep(tmp_path, checkpoint=lambda name, captioner: written.append(name))
    train(base, prepared, Said(0.1, 0.3, 0.2), keeping=keeping)
    assert written == ["best", "last", "best", "last", "last"]


@pytest.mark.parametrize("end", [3, 5, 12, 17, 23])
def test_ended_training_goes_on_to_the_very_same_weights(
    base: Experiment, prepared: Prepared, whole: Trained, tmp_path: Path, end: int
) -> None:
    """Ended between two saved states, at one, in either phase, at an evaluation."""
    at = [0]
    held_out = Prepared.held_out

    def ends(self: Prepared, rows: Tensor) -> Any:
        at[0] += 1
        if at[0] == end + 1:
            raise Ended
        return held_out(self, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "held_out", ends)
        with pytest.raises(Ended):
            train(base, prepared, Said(0.1, 0.3, 0.2), keeping=keep(tmp_path))
    reported: Points = []
    recalled: Points = []
    seen = sum(step <= end // 5 * 5 or step in (8, 16) for step in (8, 16) if step <= end)
    torch.rand(7)  # whatever happened to chance meanwhile
    resumed = train(
        base,
        prepared,
        Said(*(0.1, 0.3, 0.2)[seen:]),
        lambda step, values: reported.append((step, dict(values))),
        keeping=keep(tmp_path, recall=lambda step, values: recalled.append((step, dict(values)))),
    )
    assert same(weights(resumed), weights(whole))
    assert curve(resumed) == curve(whole)
    assert [step for step, _ in recalled + reported] == [point["step"] for point in resumed.history]
    assert all(step <= end for step, _ in recalled)
    assert len(recalled) == sum(point["step"] < reported[0][0] for point in resumed.history)


def test_average_and_best_survive_an_end(base: Experiment, prepared: Prepared, tmp_path: Path) -> None:
    experiment = replace(base, train=replace(base.train, ema=0.5, keep="best"))
    wanted = train(experiment, prepared, Said(0.1, 0.3, 0.2))

    def ends(step: int, values: Mapping[str, float]) -> None:
        if step == 20 and "loss.total" in values:
            raise Ended

    with pytest.raises(Ended):
        train(experiment, prepared, Said(0.1, 0.3), ends, keeping=keep(tmp_path))
    resumed = train(experiment, prepared, Said(0.2), keeping=keep(tmp_path))
    assert same(weights(resumed), weights(wanted))
    assert curve(resumed) == curve(wanted)


def test_state_holds_what_moves_and_nothing_that_stands(
    base: Experiment, prepared: Prepared, whole: Trained, tmp_path: Path
) -> None:
    """Keyword heads are most of a captioner, and no phase moves them."""
    train(base, prepared, Said(0.1, 0.3, 0.2), keeping=keep(tmp_path))
    state = load_state(keep(tmp_path).state)
    assert state is not None
    held = {name.removeprefix("captioner.") for name in state["module"]}
    left_out = set(weights(whole)) - held
    assert {name.split(".")[0] for name in left_out} == {"keyword_heads", "clip_head"}
    fresh = fresh_captioner(base, prepared).state_dict()
    assert all(torch.equal(weights(whole)[name], fresh[name]) for name in left_out)


def test_state_of_another_training_is_left_alone(
    base: Experiment, prepared: Prepared, whole: Trained, tmp_path: Path
) -> None:
    train(replace(base, seed=5), prepared, Said(), keeping=keep(tmp_path, "b"))
    assert same(weights(train(base, prepared, Said(0.1, 0.3, 0.2), keeping=keep(tmp_path, "a"))), weights(whole))


def test_broken_state_is_one_line(base: Experiment, prepared: Prepared, tmp_path: Path) -> None:
    keeping = keep(tmp_path)
    train(base, prepared, Said(), keeping=keeping)
    whole = keeping.state.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"no archive"):
        keeping.state.write_bytes(broken)
        with pytest.raises(StateError, match=r"state\.pt cannot be read .*: remove it to begin anew"):
            train(base, prepared, Said(), keeping=keeping)


def test_full_disk_leaves_the_state_that_was_there(tmp_path: Path) -> None:
    file = tmp_path / "state.pt"
    save_state({"steps": 3, "module": {"w": torch.ones(5)}}, file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))  # as a disk with 64 KiB left
    try:
        with pytest.raises(OSError, match=r"state\.pt cannot be written .*make room, then go on from it with --resume"):
            save_state({"steps": 4, "module": {"w": torch.ones(1 << 20)}}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = load_state(file)
    assert found is not None
    assert found["steps"] == 3
    assert list(tmp_path.iterdir()) == [file]


def test_loss_that_is_no_number_stops_at_once_and_names_the_images(
    base: Experiment, prepared: Prepared, tmp_path: Path
) -> None:
    """An image whose features are no numbers: its step ends training, and the last state stands."""
    spoilt = 17
    images = FeatureStore.images

    def with_a_bad_one(self: FeatureStore, rows: Tensor) -> ImageFeatures:
        found = images(self, rows)
        bad = torch.tensor([self.names[row] == prepared.train_images[spoilt].name for row in rows])
        return replace(found, pooled=found.pooled.masked_fill(bad[:, None], math.nan))

    keeping = keep(tmp_path)
    experiment = replace(base, train=replace(base.train, save_every=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureStore, "images", with_a_bad_one)
        with pytest.raises(TrainingStopped) as caught:
            train(experiment, prepared, Said(), keeping=keeping)
    said = str(caught.value)
    assert "no finite number at step" in said
    assert prepared.train_images[spoilt].name in said
    assert "Lower train.lr (now 0.01)" in said
    assert f"is whole, in {keeping.state.parent}" in said
    kept = load_state(keeping.state)
    assert kept is not None
    assert f"at step {kept['steps'] + 1} " in said
    assert all(tensor.isfinite().all() for tensor in kept["module"].values() if tensor.is_floating_point())


def test_exploding_loss_stops(base: Experiment, prepared: Prepared) -> None:
    wild = replace(base.train, lr=30.0, warmup=0, clip_norm=1e9, explode=2.0, steps=100, evaluations=1)
    with pytest.raises(
        TrainingStopped, match=r"more than 2 times that of the first step.*images of that step: .*\.jpg"
    ):
        train(replace(base, train=wild), prepared, Said())


def test_out_of_memory_says_what_to_lower() -> None:
    config = TrainConfig(images_per_step=16)
    for accumulate, advice in (
        (1, r"1 part .*raise train\.accumulate \(now 1\)"),
        (16, "lower train.captions_per_image"),
    ):
        with (
            pytest.raises(TrainingStopped, match=f"with 16 images a step in .*{advice}"),
            memory_advice(replace(config, accumulate=accumulate), 1),
        ):
            torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match="something else"), memory_advice(config, 1):
        raise RuntimeError("something else")


def test_half_precision_of_gpus_is_refused_where_there_is_none(base: Experiment, prepared: Prepared) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match=r"train\.precision fp16 needs a CUDA GPU; bf16 runs on a CPU too"):
        train(replace(base, train=replace(base.train, precision="fp16")), prepared, Said())


def test_curves_show_stages_rates_and_whether_the_picture_is_used(whole: Trained) -> None:
    (first, last) = [point for point in whole.history if "loss.total" in point]
    assert {name for name in first if name.startswith("gradient_norm.")} == {
        f"gradient_norm.{stage}"
        for stage in ("text_projection", "adapter", "graph", "fusion", "guidance", "prefix", "decoder")
    } | {"gradient_norm.clip_head"}
    assert first["gradient_norm"] ** 2 == pytest.approx(
        sum(value**2 for name, value in first.items() if name.startswith("gradient_norm.")), rel=1e-3
    )
    assert first["lr.stages"] > 0
    assert first["lr.clip_head"] == pytest.approx(0.1 * first["lr.stages"])
    assert first["images_per_s"] > 0
    assert first["memory_mb"] > 100
    assert last["loss.total"] < first["loss.total"]
    for point in whole.history:
        if "dev.loss" in point:
            assert point["dev.image_use"] == pytest.approx(point["dev.loss_shuffled"] - point["dev.loss"])


def test_dev_loss_is_that_of_a_slow_loop(base: Experiment, prepared: Prepared, whole: Trained) -> None:
    captioner = whole.captioner
    rows = torch.arange(4)
    sums = {"own": 0.0, "other": 0.0}
    count = 0
    with torch.no_grad():
        prefixes = [captioner.condition(prepared.dev.images(rows[i : i + 1])).prefix for i in range(4)]
        for i in range(4):
            for caption in prepared.dev_images[i].captions:
                encoded = prepared.tokenizer.encode([caption], max_tokens=base.vocabulary.max_tokens)
                tokens, mask = encoded.tokens[None], encoded.mask[None]
                count += int(mask[..., 1:].sum())
                for name, prefix in (("own", prefixes[i]), ("other", prefixes[i - 1])):
                    losses = captioner.decoder.token_losses(
                        prefix.embeddings, prefix.valid, tokens, mask, prefix.added, prefix.bias
                    )
                    sums[name] += losses.sum().item()
    last = [point for point in whole.history if "dev.loss" in point][-1]
    assert last["dev.loss"] == pytest.approx(sums["own"] / count, rel=1e-4)
    assert last["dev.loss_shuffled"] == pytest.approx(sums["other"] / count, rel=1e-4)


def test_keyword_lesson_teaches_and_leaves_the_captioner_without_a_trace(
    base: Experiment, prepared: Prepared, whole: Trained
) -> None:
    experiment = replace(
        base, objective=CaptionObjectiveConfig(keyword_weight=0.5), train=replace(base.train, steps=100, evaluations=1)
    )
    taught = train(experiment, prepared, Said())
    terms = [point["loss.keywords"] for point in taught.history if "loss.keywords" in point]
    assert terms[-1] < 0.9 * terms[0]
    assert set(taught.captioner.state_dict()) == set(whole.captioner.state_dict())


@pytest.fixture(scope="module")
def start(base: Experiment, prepared: Prepared, whole: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint to go on from."""
    checkpoint = Checkpoint.of(base, whole.captioner, prepared)
    folder = tmp_path_factory.mktemp("start") / "checkpoint"
    save_checkpoint(checkpoint, folder)
    return folder


def test_training_goes_on_from_a_checkpoint(base: Experiment, prepared: Prepared, whole: Trained, start: Path) -> None:
    """With every stage but one frozen, what comes out has the checkpoint's weights everywhere else."""
    frozen = PhaseConfig(
        share=1.0, decoder=False, frozen=("adapter", "graph", "fusion", "guidance", "text_projection"), clip_layers=0
    )
    experiment = replace(base, init_from=start, phase1=frozen, phase2=PhaseConfig(share=0.0), seed=3)
    found, before = weights(train(experiment, prepared, Said())), weights(whole)
    moved = {name for name, tensor in found.items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(name.startswith(("prefix.", "decoder.word_bias.")) for name in moved)


def test_checkpoint_that_does_not_fit_is_refused(tiny: Experiment, prepared: Prepared, start: Path) -> None:
    with pytest.raises(ValueError, match="holds a captioner of other stages than this experiment's"):
        train(replace(ARMS["clipcap"].make(tiny), init_from=start), prepared, Said())
    other = replace(prepared, scene_bank=prepared.detail_bank)
    with pytest.raises(ValueError, match=r"go on from a checkpoint of the same data \(--data\.root\) and settings"):
        train(replace(tiny, init_from=start), other, Said())
