from collections.abc import Callable

import pytest
import torch

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.distillation.student import Student, make_student, student_experiment
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.training.config import TrainConfig
from regioncap.experiments.training.phases import PhaseConfig

LIGHT = Gpt2DecoderConfig(layers=1, heads=2, width=16, positions=64, dropout=0.1)


@pytest.fixture(params=["+graph+guidance", "clipcap"])
def pair(
    request: pytest.FixtureRequest, make_captioner: Callable[[str], Captioner], tiny: Experiment, prepared: Prepared
) -> tuple[Captioner, Student]:
    teacher = make_captioner(request.param)
    experiment = student_experiment(ARMS[request.param].make(tiny), LIGHT, TrainConfig(steps=3), seed=5)
    return teacher, make_student(experiment, teacher, prepared)


def test_stages_before_the_prefix_are_the_teachers(pair: tuple[Captioner, Student], prepared: Prepared) -> None:
    teacher, student = pair
    assert student.decoder.width == 16
    images = prepared.dev.images(torch.arange(6))
    with torch.no_grad():
        one, other = (each.eval().condition(images) for each in (teacher, student))
    assert torch.equal(one.fused, other.fused)
    assert torch.equal(one.regions.features, other.regions.features)
    assert torch.equal(one.guidance.scene_tokens, other.guidance.scene_tokens)


def test_they_share_no_storage_with_the_teachers(pair: tuple[Captioner, Student]) -> None:
    teacher, student = pair
    ours = {p.data_ptr() for p in student.parameters() if p.numel()}
    assert not ours & {p.data_ptr() for p in teacher.parameters() if p.numel()}


def test_training_moves_prefix_and_decoder_and_neither_weights_nor_statistics_of_the_rest(
    pair: tuple[Captioner, Student], prepared: Prepared
) -> None:
    _, student = pair
    student.free(PhaseConfig())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.1)
    rows = torch.arange(8)
    tokens, mask, _ = prepared.captions.pick(rows, 2, torch.Generator().manual_seed(0))
    student.train()
    for _ in range(2):
        condition = student.condition(*prepared.seen(rows))
        student.generation_loss(condition.prefix, tokens, mask).backward()
        optimizer.step()
    moved = {name for name, tensor in student.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith(("prefix.", "decoder."))}


def test_the_teachers_stages_stay_in_evaluation_mode(pair: tuple[Captioner, Student]) -> None:
    _, student = pair
    student.train()
    assert student.decoder.training
    assert student.prefix.training
    still = (student.clip_head, student.adapter, student.graph, student.fusion, student.guidance)
    assert not any(module.training for stage in still for module in stage.modules())


def test_seed_decides_the_weights_that_are_its_own(
    make_captioner: Callable[[str], Captioner], tiny: Experiment, prepared: Prepared
) -> None:
    teacher = make_captioner("+graph")
    graph = ARMS["+graph"].make(tiny)
    one, same, other = (
        make_student(student_experiment(graph, LIGHT, TrainConfig(), seed=seed), teacher, prepared).state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_experiment_is_the_teachers_but_for_decoder_training_and_seed(tiny: Experiment) -> None:
    experiment = student_experiment(tiny, LIGHT, TrainConfig(steps=3), seed=5)
    assert (experiment.decoder, experiment.train.steps, experiment.seed) == (LIGHT, 3, 5)
    assert (experiment.phase1.share, experiment.phase2.share) == (1.0, 0.0)
    for name in (
        "data",
        "encoders",
        "vocabulary",
        "banks",
        "adapter",
        "graph",
        "fusion",
        "guidance",
        "prefix",
        "search",
    ):
        assert getattr(experiment, name) == getattr(tiny, name)
