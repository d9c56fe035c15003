import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regioncap.experiments.arms import ARMS
from regioncap.experiments.config import Experiment
from regioncap.experiments.config_io import ConfigError, flatten, from_dict, to_dict
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.language import LanguageConfig
from regioncap.experiments.presets import PRESETS


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_arm_of_every_preset_comes_back_equal_from_json(preset: str, arm: str) -> None:
    if preset.endswith("paper") and arm.startswith(("words as tokens", "words as both")):
        with pytest.raises(ValueError, match="words as tokens need a prefix of tokens"):
            ARMS[arm].make(PRESETS[preset]())
        return
    experiment = ARMS[arm].make(PRESETS[preset]())
    assert from_dict(Experiment, json.loads(json.dumps(to_dict(experiment)))) == experiment


def test_paths_and_whole_numbers_in_float_fields_come_back_as_their_types() -> None:
    photos = PRESETS["photos"]()
    experiment = replace(
        photos,
        data=Flickr8kConfig(root=Path("some") / "folder"),
        language=LanguageConfig(captions=Path("captions.txt")),
    )
    values = json.loads(json.dumps(to_dict(experiment)))
    values["train"]["lr"] = 1
    back = from_dict(Experiment, values)
    assert back == replace(experiment, train=replace(photos.train, lr=1.0))
    assert isinstance(back.data.root, Path)
    assert isinstance(back.language, LanguageConfig)
    assert isinstance(back.language.captions, Path)
    assert isinstance(back.train.lr, float)


def _with(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    values = json.loads(json.dumps(to_dict(PRESETS["scenes"]())))
    change(values)
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v["graph"].update(colour=3), r"config\.graph \(RegionGraphConfig\): unknown field colour\."),
        (lambda v: v["graph"].pop("k"), r"config\.graph \(RegionGraphConfig\): missing field k\."),
        (
            lambda v: v["graph"].update(type="Magic"),
            r"config\.graph: unknown type 'Magic'; this version has NoGraphConfig",
        ),
        (lambda v: v["train"].update(steps="many"), r"config\.train\.steps: got 'many', wanted int"),
        (lambda v: v["train"].update(schedule="linear"), r"config\.train\.schedule: got 'linear', wanted 'cosine'"),
        (lambda v: v.update(graph={"k": 3}), r"config\.graph: got \{'k': 3\}, wanted"),
        (lambda v: v.update(dim=None), r"config\.dim: got None, wanted int"),
        (lambda v: v.update(dim=True), r"config\.dim: got True, wanted int"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Any]], None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(Experiment, _with(change))


def test_flat_keys_name_stages_by_class_and_fields_by_path() -> None:
    flat = flatten(PRESETS["scenes"]())
    assert flat["graph"] == "RegionGraphConfig"
    assert flat["graph.k"] == 3
    assert flat["data.scenes.train"] == 1600
    assert flat["train.precision"] == "bf16"
    assert flat["encoders.weights"] is None
    assert flatten(ARMS["baseline"].make(PRESETS["scenes"]()))["graph"] == "NoGraphConfig"
    assert not any(key.startswith("graph.") for key in flatten(ARMS["baseline"].make(PRESETS["scenes"]())))
