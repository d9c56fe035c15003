import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from regioncap.experiments.arms import ARMS, RETRIEVAL, own_arm, standard_arms
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import flatten
from regioncap.experiments.metrics import CaptionScorer
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.presets import PRESETS
from regioncap.experiments.training.captions import CaptionTensors
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.objectives.caption import CaptionObjectiveConfig
from regioncap.experiments.training.phases import PhaseConfig, set_trainable
from regioncap.experiments.training.train import train
from regioncap.graph import GlobalOnlyConfig, NoGraphConfig, RegionGraphConfig

WAYS = {"prefix", "decoder"}
"""Where words enter beside the vectors of eqs. 11-13."""
ALONE = {"adapter", "graph", "fusion", "prefix"}
"""What regions reach the decoder by beside words."""
STAGES = {
    "clipcap": {"adapter", "graph", "fusion", "guidance", *WAYS},
    "clipcap transformer": {"adapter", "graph", "fusion", "guidance", *WAYS},
    "baseline": {"graph", "guidance", *WAYS},
    "+graph": {"guidance", *WAYS},
    "+graph+guidance": set(),
    "+guidance": {"graph"},
    "clipcap+guidance": ALONE,
    "scene words": {"guidance"},
    "detail words": {"guidance"},
    "shuffled guidance": {"guidance"},
    "similar words": {"guidance"},
    "words as vectors": WAYS,
    "words as tokens": {"decoder"},
    "words as bias": {"prefix"},
    "words as both": set(),
    "random edges": {"graph", "guidance", *WAYS},
    "no edges": {"graph", "guidance", *WAYS},
    "learned edges": {"graph", "guidance", *WAYS},
    "scene words on clipcap": {*ALONE, "guidance"},
    "detail words on clipcap": {*ALONE, "guidance"},
    "shuffled guidance on clipcap": {*ALONE, "guidance"},
    "words as tokens on clipcap": {*ALONE, "decoder"},
    "words as bias on clipcap": {*ALONE, "prefix"},
}


def differences(one: Experiment, other: Experiment) -> set[str]:
    a, b = flatten(one), flatten(other)
    return {key for key in a.keys() | b.keys() if a.get(key, "absent") != b.get(key, "absent")}


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_arm_differs_from_the_full_captioner_in_the_stages_it_names_and_nothing_else(preset: str, arm: str) -> None:
    full = PRESETS[preset]()
    stages = STAGES[arm]
    if (
        preset.startswith("photos-best")
        and arm.endswith((" on clipcap", "+guidance"))
        and arm != "words as bias on clipcap"
    ):
        stages = stages - {"prefix"}  # regions have no tokens there in any case
    if preset.endswith("paper"):  # by similarity, as vectors alone
        if arm.startswith(("words as tokens", "words as both")):
            with pytest.raises(ValueError, match="words as tokens need a prefix of tokens"):
                ARMS[arm].make(full)
            return
        own = {"clipcap": {"prefix"}, "clipcap transformer": {"prefix"}}.get(arm, set())
        own = {"decoder"} if arm.startswith("words as bias") else own
        stages = (stages - WAYS if arm != "similar words" else set()) | own
        if arm.endswith((" on clipcap", "+guidance")):
            stages = stages - {"adapter"}  # regions' features ask for their words
    assert {key.split(".")[0] for key in differences(ARMS[arm].make(full), full)} == stages


def test_rows_of_the_tables_add_one_stage_at_a_time() -> None:
    full = PRESETS["scenes"]()
    row = {name: arm.make(full) for name, arm in ARMS.items()}
    assert {key.split(".")[0] for key in differences(row["+graph"], row["baseline"])} == {"graph"}
    assert {key.split(".")[0] for key in differences(row["+graph+guidance"], row["+graph"])} == {"guidance", *WAYS}
    assert {key.split(".")[0] for key in differences(row["+guidance"], row["baseline"])} == {"guidance", *WAYS}
    assert {key.split(".")[0] for key in differences(row["words as vectors"], row["+graph"])} == {"guidance"}
    assert {key.split(".")[0] for key in differences(row["clipcap transformer"], row["clipcap"])} == {"prefix"}
    assert differences(row["random edges"], row["+graph"]) == {"graph.metric"}
    assert differences(row["no edges"], row["+graph"]) == {"graph.metric"}
    assert differences(row["learned edges"], row["+graph"]) == {"graph.metric"}


def test_every_row_is_compared_with_a_row_above_it_or_its_control() -> None:
    rows = [RETRIEVAL, *ARMS]
    for name, arm in ARMS.items():
        assert arm.against in rows[: rows.index(name)]
    assert ARMS["random edges"].against == ARMS["no edges"].against == ARMS["learned edges"].against == "+graph"


def test_controls_have_the_graph_arms_parameters(make_captioner: Callable[[str], Captioner]) -> None:
    shapes = {
        arm: {name: tuple(p.shape) for name, p in make_captioner(arm).named_parameters()}
        for arm in ("baseline", "+graph", "random edges", "no edges")
    }
    assert shapes["random edges"] == shapes["no edges"] == shapes["+graph"]
    assert shapes["baseline"].items() < shapes["+graph"].items()


def test_arms_have_the_default_of_a_stage_that_the_settings_leave_out() -> None:
    alone = ARMS["clipcap+guidance"].make(PRESETS["photos-best"]())
    assert ARMS["+graph+guidance"].make(alone).graph == RegionGraphConfig()
    assert ARMS["+guidance"].make(alone) == ARMS["+guidance"].make(PRESETS["photos-best"]())
    assert ARMS["clipcap"].make(alone) == ARMS["clipcap"].make(PRESETS["photos-best"]())
    graphless = replace(PRESETS["scenes"](), graph=NoGraphConfig())
    assert ARMS["+graph+guidance"].make(graphless).graph == RegionGraphConfig()
    assert ARMS["random edges"].make(graphless).graph == RegionGraphConfig(metric="random")
    assert ARMS["+guidance"].make(graphless) == graphless


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm.endswith(" on clipcap")])
def test_an_arm_on_clipcap_is_that_arm_with_its_regions_in_words_alone(arm: str) -> None:
    scenes = PRESETS["scenes"]()
    with_graph = ARMS[arm.removesuffix(" on clipcap")].make(scenes)
    own = ARMS[arm].make(scenes)
    assert differences(own, with_graph) == differences(ARMS["clipcap+guidance"].make(with_graph), with_graph)
    assert own.graph == NoGraphConfig()
    assert own.fusion == GlobalOnlyConfig()
    assert ARMS[arm].against in ("clipcap", "clipcap+guidance")
    assert "+graph" not in ARMS[arm].says


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm == "clipcap+guidance" or arm.endswith(" on clipcap")])
def test_where_regions_enter_through_words_alone_the_fused_vector_is_the_global_one(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str
) -> None:
    captioner = make_captioner(arm)
    images, _ = prepared.seen(torch.arange(3))
    with torch.inference_mode():
        g = captioner.embed_image(images.pooled)
        assert torch.allclose(captioner.condition(images).fused, g * math.sqrt(captioner.dim))
    slots = [kind for kind, _ in captioner.condition(images).prefix.slots]
    assert "regions" not in slots
    assert slots[0] == "fused"


@pytest.mark.parametrize("arm", ["baseline", "+graph", "+graph+guidance", "+guidance", "clipcap+guidance"])
def test_settings_say_which_arm_they_are(arm: str) -> None:
    experiment = ARMS[arm].make(PRESETS["scenes"]())
    assert own_arm(experiment) == arm
    assert ARMS[arm].make(experiment) == experiment


def test_a_captioner_without_a_graph_has_a_study_that_asks_whether_one_helps() -> None:
    assert own_arm(PRESETS["photos-best"]()) == own_arm(PRESETS["photos-best-detected"]()) == "clipcap+guidance"
    assert own_arm(PRESETS["photos"]()) == "+graph+guidance"
    for preset in ("photos", "photos-best", "photos-best-detected"):
        assert {"+graph+guidance", own_arm(PRESETS[preset]())} <= set(standard_arms(PRESETS[preset]()))


def first(prepared: Prepared, images: int) -> Prepared:
    """The same study with only so many training images, one caption each."""
    captions = prepared.captions
    return replace(
        prepared,
        train=prepared.train.take(torch.arange(images)),
        train_images=prepared.train_images[:images],
        offsets=prepared.offsets[:images],
        captions=CaptionTensors(
            tokens=captions.tokens[:images, :1], mask=captions.mask[:images, :1], text=captions.text[:images, :1]
        ),
    )


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_overfits_four_images(tiny: Experiment, prepared: Prepared, scorer: CaptionScorer, arm: str) -> None:
    experiment = replace(
        ARMS[arm].make(tiny),
        train=TrainConfig(
            steps=70, images_per_step=4, lr=1e-2, evaluations=1, evaluation_images=2, precision="fp32", weight_decay=0.0
        ),
    )
    losses = []
    train(experiment, first(prepared, 4), scorer, lambda step, values: losses.append(values.get("loss.generation")))
    final = [loss for loss in losses if loss is not None][-1]
    assert final < 0.2  # ln(vocabulary) is 4.8 at the start


@pytest.mark.parametrize("phase", [PhaseConfig(), PhaseConfig(decoder=False), PhaseConfig(clip_layers=2)])
@pytest.mark.parametrize("arm", ARMS)
def test_gradient_reaches_what_the_phase_trains_and_nothing_else(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, arm: str, phase: PhaseConfig
) -> None:
    captioner = make_captioner(arm).train()
    set_trainable(captioner, phase)
    rows = torch.arange(12)
    condition = captioner.condition(*prepared.seen(rows))
    picked = prepared.captions.pick(rows, 5, torch.Generator())
    objective = CaptionObjectiveConfig().build(prepared.lessons, captioner.dim)
    torch.stack(list(objective(captioner, condition, picked).terms.values())).sum().backward()
    for name, parameter in captioner.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            dead = parameter.grad.abs().max() == 0
            # Attention over a single neighbour has nothing to weigh: its scores' parameters are there for the count.
            assert not dead or (arm == "no edges" and "graph.layers" in name), name
