import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from regioncap.experiments.arms import baseline, clipcap, no_edges, without_guidance
from regioncap.experiments.presets import scenes
from regioncap.experiments.tuning.config_fields import value_of
from regioncap.experiments.tuning.space import Space, default_space, read_space, short, starts


@pytest.mark.parametrize(
    ("word", "distribution"),
    [
        ("graph.k=3:10", IntDistribution(3, 10)),
        ("train.steps=200:800:100", IntDistribution(200, 800, step=100)),
        ("train.steps=100:1000:log", IntDistribution(100, 1000, log=True)),
        ("train.lr=1e-4:1e-2:log", FloatDistribution(1e-4, 1e-2, log=True)),
        ("objective.alpha1=0:1", FloatDistribution(0.0, 1.0)),
        ("objective.alpha1=0:1:0.25", FloatDistribution(0.0, 1.0, step=0.25)),
        ("graph.sigma=1:2", FloatDistribution(1.0, 2.0)),  # None now, and no whole number
        ("graph.metric=spatial,semantic", CategoricalDistribution(("spatial", "semantic"))),
        ("graph.sigma=none,0.1", CategoricalDistribution((None, 0.1))),
        ("graph.self-loops=true,false", CategoricalDistribution((True, False))),
        ("graph.heads=1,2,4", CategoricalDistribution((1, 2, 4))),
    ],
)
def test_a_field_and_its_values_are_read(word: str, distribution: object) -> None:
    name = word.partition("=")[0].replace("-", "_")
    assert read_space(scenes(), [word]).distributions == {name: distribution}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("graph.k", "--vary graph.k: want FIELD=LOW:HIGH"),
        ("graph.k=", "want FIELD=LOW:HIGH"),
        ("graph.kk=1:2", "no config field 'graph.kk' in this experiment; near to it: graph.k"),
        ("graph.k=5:3", "want LOW below HIGH"),
        ("graph.k=0:3", "graph.k must be at least 1, got 0"),
        ("graph.k=1.5:3", "want whole numbers"),
        ("graph.k=1:3:log:2", "want numbers, as LOW:HIGH"),
        ("graph.k=a:b", "want numbers"),
        ("train.lr=0:1:log", "want LOW below HIGH, and above 0 for log"),
        ("graph.metric=1:3", "it holds 'spatial'"),
        ("graph.metric=spatial", "want two choices or more"),
        ("graph.metric=spatial,near", "graph.metric: got 'near', wanted"),
        ("graph.k=3,many", "got 'many', wanted int"),
        ("graph=1:3", "this field is no single value"),
        ("seed=1:3", "for the mean over seeds there is --seeds"),
        ("preset=a,b", "no setting to tune"),
    ],
)
def test_a_word_that_cannot_be_read_is_named(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^--vary") as error:
        read_space(scenes(), [word])
    assert said in str(error.value)


def test_a_field_is_varied_once() -> None:
    with pytest.raises(ValueError, match="varied twice"):
        read_space(scenes(), ["graph.k=1:3", "graph.k=1:4"])


def test_default_space_has_no_dead_dimensions() -> None:
    full = default_space(scenes(), 0.1234)
    assert list(full.distributions) == [
        "graph.k", "graph.sigma", "objective.alpha1", "objective.alpha2", "objective.gate_lambda",
    ]  # fmt: skip
    assert full.distributions["graph.sigma"] == FloatDistribution(0.031, 0.49, log=True)
    assert list(default_space(without_guidance(scenes()), 0.1).distributions) == [
        "graph.k", "graph.sigma", "objective.alpha1",
    ]  # fmt: skip
    for arm in (baseline, clipcap, no_edges):
        assert list(default_space(arm(scenes()), None).distributions) == ["objective.alpha1"]


def test_starts_are_the_papers_values_and_the_presets() -> None:
    base = scenes()
    paper, preset = starts(base, default_space(base, 0.12), 0.12)
    assert (paper.name, preset.name) == ("the paper's values", "the preset's values")
    assert paper.parameters == {
        "graph.k": 5, "graph.sigma": 0.12, "objective.alpha1": 0.7, "objective.alpha2": 0.3,
        "objective.gate_lambda": 0.001,
    }  # fmt: skip
    assert preset.parameters == paper.parameters | {"graph.k": 3}
    assert paper.own == preset.own == ("graph.sigma",)


def test_starts_outside_the_space_or_equal_are_left_out() -> None:
    base = scenes()
    assert [start.name for start in starts(base, read_space(base, ["graph.k=4:8"]), None)] == ["the paper's values"]
    assert [start.name for start in starts(base, read_space(base, ["graph.k=2:4"]), None)] == ["the preset's values"]
    assert starts(base, read_space(base, ["graph.k=6:8"]), None) == []
    assert len(starts(base, read_space(base, ["objective.alpha1=0:1"]), None)) == 1
    (start,) = starts(base, read_space(base, ["graph.sigma=none,0.1"]), None)
    assert start.parameters == {"graph.sigma": None}


def test_a_suggestion_is_the_base_with_the_trials_values() -> None:
    base = scenes()
    space = read_space(base, ["graph.k=2:9", "graph.sigma=0.1:0.2", "graph.metric=spatial,semantic"])
    trial = optuna.trial.FixedTrial({"graph.k": 4, "graph.sigma": 0.15, "graph.metric": "semantic"})
    found = space.suggest(trial, base)
    assert [value_of(found, name) for name in space.distributions] == [4, 0.15, "semantic"]
    own = space.suggest(trial, base, ["graph.sigma"])
    assert value_of(own, "graph.sigma") is None
    assert value_of(own, "graph.k") == 4


def test_the_space_comes_back_from_the_study() -> None:
    space = read_space(scenes(), ["graph.k=2:9", "train.lr=1e-4:1e-2:log", "graph.sigma=none,0.1"])
    assert Space.from_json(space.to_json()) == space


@pytest.mark.parametrize(
    ("word", "varies"),
    [
        ("dim=32,64", True), ("banks.max-scene=1:5", True), ("vocabulary.min-count=1:5", True),
        ("graph.k=1:5", False), ("decoder.layers=1:3", False), ("train.lr=1e-4:1e-2", False),
    ],
)  # fmt: skip
def test_whether_inputs_differ_between_trials(word: str, varies: bool) -> None:
    assert read_space(scenes(), [word]).varies_inputs(scenes()) is varies


@given(st.floats(1e-6, 1e6))
def test_sigmas_range_holds_the_mean_distance(distance: float) -> None:
    sigma = default_space(scenes(), distance).distributions["graph.sigma"]
    assert isinstance(sigma, FloatDistribution)
    assert sigma.low < distance < sigma.high
    assert sigma.high / sigma.low == pytest.approx(16, rel=0.1)


def test_a_trial_in_one_line() -> None:
    assert short({"graph.k": 3, "graph.sigma": 0.12345, "train.steps": 5}) == "K 3, sigma 0.123, train.steps 5"
