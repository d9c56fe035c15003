import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from regioncap.decoder import SearchConfig
from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from regioncap.experiments.config import Experiment
from regioncap.experiments.data.coco import read_coco
from regioncap.experiments.data.flickr8k import Flickr8kConfig
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.metrics import CaptionScorer, MetricsConfig
from regioncap.experiments.prepare import Prepared
from regioncap.experiments.robustness import measure as measure_module
from regioncap.experiments.robustness.corruptions import CORRUPTIONS, corrupt
from regioncap.experiments.robustness.measure import ChangedPictures, RobustnessOptions, measure_robustness
from regioncap.experiments.robustness.subjects import checkpoints_in, load_subjects

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def study(
    make_captioner: Callable[[str], Captioner],
    prepared: Prepared,
    tiny: Experiment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A study of two arms that were hardly trained, one of them with two seeds; the other searches another way."""
    folder = tmp_path_factory.mktemp("study")
    other = replace(tiny, search=SearchConfig(greedy_tokens=0, beams=1, min_new_tokens=5, max_new_tokens=8))
    for arm, seed, experiment in (("+graph", 0, other), ("baseline", 0, tiny), ("baseline", 1, tiny)):
        checkpoint = Checkpoint.of(ARMS[arm].make(experiment), make_captioner(arm), prepared)
        save_checkpoint(checkpoint, folder / arm / f"seed{seed}" / "checkpoint")
    return folder


@pytest.fixture
def options(scorer: CaptionScorer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(MetricsConfig, "build", lambda self: scorer)

    def made(**more: Any) -> RobustnessOptions:
        small = {"out": tmp_path / "out", "cache": cache, "corruptions": ("noise",), "levels": (5,), "images": 4}
        return RobustnessOptions(**(small | more))

    return made


def test_captions_of_clean_pictures_are_those_of_evaluate(
    study: Path, options: Callable[..., Any], command: Command, cache: Path, tmp_path: Path
) -> None:
    results = measure_robustness([str(study)], options(images=0))
    scores = tmp_path / "scores.json"
    checkpoint = study / "baseline" / "seed0" / "checkpoint"
    outcome = command("evaluate", checkpoint, "--split", "val", "--out", scores, "--cache", cache)
    assert outcome.status == 0, outcome.err
    stored = json.loads(scores.read_text())
    clean = results.clean("baseline")
    assert clean.captions == {name: row["caption"] for name, row in stored["per_image"].items()}
    assert 100 * clean.scores["CIDEr"] == pytest.approx(stored["corpus"]["CIDEr"])


def test_encoders_see_the_changed_pixels(
    study: Path, options: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store of changed pictures holds what the encoder says of the picture that `corrupt` makes."""
    images = read_coco(load_subjects([str(study)]).checkpoints[0].experiment.data.root).split("val")[:3]
    encoder = load_subjects([str(study)]).checkpoints[0].experiment.encoders.build()
    folder = options().out / "pictures"
    changed, clean = (
        ChangedPictures(images, name, level, folder / name) for name, level in (("blur", 5), ("clean", 0))
    )
    for pictures, spoilt in ((changed, True), (clean, False)):
        for file, image in zip(pictures.files(), images, strict=True):
            want = Image.open(image.path).convert("RGB")
            want = corrupt(want, "blur", 6.0, image.name) if spoilt else want
            assert np.array_equal(np.asarray(Image.open(file)), np.asarray(want))
    stores = [pictures.features(encoder.key, encoder.image) for pictures in (changed, clean)]
    assert [store.names for store in stores] == [tuple(image.name for image in images)] * 2
    assert not np.allclose(*(store.pooled().numpy() for store in stores), atol=1e-3)
    changed.remove()
    assert not (folder / "blur").exists()


def test_an_encoder_runs_once_for_all_captioners_that_share_it(
    study: Path, options: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoded = measure_module.encode, []

    def counted(images: Any, *arguments: Any) -> Any:
        encoded.append(len(images))
        return encode(images, *arguments)

    monkeypatch.setattr(measure_module, "encode", counted)
    results = measure_robustness([str(study)], options(levels=(1, 5)))
    assert results.subjects == ("baseline", "+graph")  # in the order of the table, one seed each
    assert encoded == [4, 4, 4]  # clean and two levels
    assert results.clean("baseline").captions != results.clean("+graph").captions


def test_an_interrupted_run_goes_on_and_more_can_be_asked_for(
    study: Path, options: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    call, captioned = CaptionGenerator.__call__, []

    def dies_at_the_fourth(self: CaptionGenerator, images: Any, names: Sequence[str], *more: Any) -> Any:
        captioned.append(len(names))
        if len(captioned) == 4:
            raise KeyboardInterrupt
        return call(self, images, names, *more)

    monkeypatch.setattr(CaptionGenerator, "__call__", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        measure_robustness([str(study)], options())
    first = measure_robustness([str(study)], options())
    assert captioned == [4] * 5  # two captioners, clean and noise: the one that died alone was asked again
    assert measure_robustness([str(study)], options()).measured == first.measured
    assert captioned == [4] * 5
    assert not (options().out / "pictures").exists()
    more = measure_robustness([str(study)], options(levels=(2, 5)))
    assert captioned == [4] * 7
    assert [row.level for row in more.of("baseline", "noise")] == [0, 2, 5]
    with pytest.raises(ValueError, match="captions of another run: pictures is"):
        measure_robustness([str(study)], options(images=3))


def test_command_says_what_it_wants(study: Path, command: Command, tmp_path: Path) -> None:
    assert "wants checkpoints, studies or hf: captioners; got none" in command("robustness", "--out", tmp_path).err
    twice = command("robustness", study, study, "--out", tmp_path).err
    assert "is named twice: name every captioner once" in twice


def test_pictures_are_spread_over_dev(study: Path, options: Callable[..., Any]) -> None:
    loaded = load_subjects([str(study)])
    every = [image.name for image in measure_module._images(loaded, options(images=0))]
    few = [image.name for image in measure_module._images(loaded, options(images=3))]
    assert few == [every[0], every[len(every) // 3], every[2 * len(every) // 3]]
    assert [image.name for image in measure_module._images(loaded, options(images=10_000))] == every


def test_checkpoints_of_other_data_are_measured_apart(
    study: Path, options: Callable[..., Any], photographs: Path
) -> None:
    loaded = load_subjects([str(study)])
    first, second = loaded.checkpoints
    other = replace(second, experiment=replace(second.experiment, data=Flickr8kConfig(root=photographs)))
    with pytest.raises(ValueError, match=r"data of several kinds \(Flickr8kConfig, ScenesSource\)"):
        measure_module._images(replace(loaded, checkpoints=(first, other)), options())


def test_every_corruption_can_be_asked_for(options: Callable[..., Any]) -> None:
    assert get_args(measure_module.Name) == RobustnessOptions(out=Path("out")).corruptions == tuple(CORRUPTIONS)
    asked = options(corruptions=("crop", "blur"), levels=(5, 2)).conditions
    assert asked == (("clean", 0), ("blur", 2), ("blur", 5), ("crop", 2), ("crop", 5))


def test_folders_are_found_and_named(study: Path, tmp_path: Path) -> None:
    run = study / "baseline" / "seed1"
    assert checkpoints_in(run) == checkpoints_in(run / "checkpoint") == [run / "checkpoint"]
    assert [folder.parent.name for folder in checkpoints_in(study)] == ["seed0", "seed0"]
    both = [str(study / "baseline" / seed / "checkpoint") for seed in ("seed0", "seed1")]
    assert [subject.name for subject in load_subjects(both).subjects] == both  # the arm alone would not tell
    with pytest.raises(CheckpointError, match="is neither a checkpoint nor a study"):
        checkpoints_in(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": (0, 3)}, r"levels some of 1, 2, 3, 4, 5, got noise and 0, 3"),
        ({"corruptions": ()}, "corruptions must name one at least"),
        ({"scores": ("BLEU-4",)}, "CIDEr among them, got BLEU-4"),
        ({"scores": ("CIDEr", "CLIP")}, "scores must be some of BLEU-1"),
        ({"images": 1}, "images must be 0 or at least 2"),
        ({"worst": -1}, "worst at least 0"),
    ],
)
def test_bad_options_are_named(options: Callable[..., Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        options(**change)
