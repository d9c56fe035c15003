"""The one line: for each place where the time may go, what to try."""

from dataclasses import replace
from typing import Any

import pytest

from regioncap.experiments.config_io import flatten
from regioncap.experiments.presets import paper, photos, scenes
from regioncap.experiments.profiling.measured import Profile, Timed
from regioncap.experiments.profiling.trace import MemoryCurve, Operator, Trace
from regioncap.experiments.profiling.verdict import verdict


def profile_of(
    what: Any, seconds: dict[str, float], waiting_s: float = 0.0, operators: Any = (), device: str = "cpu"
) -> Profile:
    timed = Timed(units=4, images=32, wall_s=sum(seconds.values()), seconds=seconds, waiting_s=waiting_s)
    memory = MemoryCurve(device="CPU", seconds=(), mib=(), stages=())
    trace = Trace(operators=tuple(operators), memory=memory)
    return Profile(what=what, subject="x", device=device, unit="batch", timed=timed, trace=trace, traced_units=1)


def backward(stage: str, ms: float) -> Operator:
    return Operator(stage=f"{stage}, backward", name="aten::mm", calls=1, ms=ms)


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [
        ({"decoder": 7.0, "graph": 3.0}, ["the decoder takes 70%", "--search.precision int8", "fewer beams than 5"]),
        ({"region encoder": 6.0, "global encoder": 2.0, "decoder": 2.0}, ["encoders take 80%", "regioncap extract"]),
        ({"graph": 9.0, "decoder": 1.0}, ["the graph takes 90%", "--encoders.regions.regions"]),
        ({"guidance": 9.0, "decoder": 1.0}, ["guidance takes 90%", "--banks.max-detail"]),
        ({"prefix": 9.0, "decoder": 1.0}, ["prefix takes 90%"]),
    ],
)
def test_captioning(seconds: dict[str, float], parts: list[str]) -> None:
    said = verdict(profile_of("caption", seconds), paper())
    assert "\n" not in said
    for part in parts:
        assert part in said


def test_precision_is_advised_where_there_is_something_to_gain() -> None:
    profile = profile_of("caption", {"decoder": 1.0})
    assert "--search.precision bfloat16" in verdict(replace(profile, device="cuda"), paper())
    low = replace(paper(), search=replace(paper().search, precision="int8"))
    assert "--search.precision" not in verdict(profile, low)


def test_training_that_waits_is_told_why() -> None:
    waiting = profile_of("train", {"loading": 3.0, "decoder": 7.0}, waiting_s=3.0)
    assert "waits 30% of the time for stored features" in verdict(waiting, photos())
    each = replace(photos(), images=replace(photos().images, encode="each-step"))
    assert "--images.encode once" in verdict(waiting, each)


def test_backward_pass_is_counted_with_its_stage() -> None:
    seconds = {"decoder": 2.0, "graph": 2.5, "backward": 5.0, "optimizer": 0.5}
    said = verdict(
        profile_of("train", seconds, operators=[backward("decoder", 32.0), backward("graph", 8.0)]), scenes()
    )
    assert said.startswith("the decoder takes 60% of a step, backward pass included")  # 0.2 + 0.5 * 0.8
    said = verdict(
        profile_of("train", seconds, operators=[backward("graph", 32.0), backward("decoder", 8.0)]), scenes()
    )
    assert said.startswith("the graph takes 65%")


def test_optimizer_that_dominates() -> None:
    assert "--train.images-per-step" in verdict(profile_of("train", {"optimizer": 8.0, "decoder": 1.0}), scenes())


def test_encoding_by_a_processor_or_a_gpu() -> None:
    seconds = {"preprocessing": 3.0, "region encoder": 7.0}
    said = verdict(profile_of("encode", seconds), photos())
    assert "the region encoder takes 70%" in said
    assert "accelerate launch" in said
    assert "30% of the threads' time goes into reading" in verdict(
        profile_of("encode", seconds, device="cuda"), photos()
    )
    assert "60% of the threads' time" in verdict(profile_of("encode", {"preprocessing": 6.0, "graph": 4.0}), photos())


def test_flags_that_are_advised_exist() -> None:
    """Of every rule, in the presets whose verdicts name them."""
    known = {f"--{name.replace('_', '-')}" for preset in (paper(), photos(), scenes()) for name in flatten(preset)}
    for what, stages in (
        ("caption", ("decoder", "graph", "guidance", "region encoder")),
        ("train", ("decoder", "optimizer")),
    ):
        for stage in stages:
            said = verdict(profile_of(what, {stage: 1.0}), paper())
            flags = [word.strip("(),;:.") for word in said.split() if word.strip("(").startswith("--")]
            assert all(flag in known for flag in flags), said
