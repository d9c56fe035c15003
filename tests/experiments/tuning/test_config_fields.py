from dataclasses import is_dataclass, replace

import pytest

from regioncap.experiments.config_io import flatten, to_dict
from regioncap.experiments.presets import PRESETS, scenes
from regioncap.experiments.tuning.config_fields import value_of, with_values


@pytest.mark.parametrize("preset", PRESETS)
def test_every_field_is_read_and_set_by_its_name(preset: str) -> None:
    experiment = PRESETS[preset]()
    for name, value in flatten(experiment).items():
        found = value_of(experiment, name)
        if is_dataclass(found):
            assert type(found).__name__ == value
        elif isinstance(found, tuple):
            assert str([to_dict(item) if is_dataclass(item) else item for item in found]) == value
        else:
            assert str(found) == str(value)
    assert with_values(experiment, {}) == experiment


def test_values_are_set_all_at_once() -> None:
    """Either share alone would be refused beside the other's old value."""
    found = with_values(scenes(), {"phase1.share": 0.5, "phase2.share": 0.5, "graph.k": 7})
    base = scenes()
    assert found == replace(
        base,
        phase1=replace(base.phase1, share=0.5),
        phase2=replace(base.phase2, share=0.5),
        graph=replace(base.graph, k=7),
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"graph.kk": 3}, "no config field 'graph.kk' in this experiment; near to it: graph.k"),
        ({"alpha1": 3}, "near to it: objective.alpha1"),
        ({"graph.k.x": 3}, "no config field 'graph.k.x'"),
        ({"graph.k": 0}, "graph.k must be at least 1, got 0"),
        ({"graph.k": "five"}, "experiment.graph.k: got 'five', wanted int"),
        ({"phase1.share": 0.9}, "must add up to 1"),
    ],
)
def test_what_does_not_fit_is_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace(".", r"\.")):
        with_values(scenes(), values)
