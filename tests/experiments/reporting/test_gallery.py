from collections.abc import Callable
from pathlib import Path

import numpy as np

from regioncap.experiments.reporting.finished import read_runs
from regioncap.experiments.reporting.gallery import choose, gallery
from regioncap.experiments.reporting.rows import by_arm
from regioncap.experiments.study_file import read_study_file


def test_image_on_which_arms_differ_most_is_there_and_no_more_than_asked() -> None:
    scores = np.random.default_rng(0).random((4, 200))
    apart = scores.max(axis=0) - scores.min(axis=0)
    gains = scores[2] - scores[1]
    for most in (9, 40):
        chosen = choose(scores, most, seed=0)
        assert len(chosen) == len(set(chosen)) == most
        assert {int(np.argmax(apart)), int(np.argmax(gains)), int(np.argmin(gains))} <= set(chosen)
    assert choose(scores, 1000, seed=0) == list(range(200))
    assert choose(scores, 40, seed=0) != choose(scores, 40, seed=1)


def test_images_hold_every_arm_with_what_it_saw(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    first = [runs[0] for runs in by_arm(read_runs(study)).values()]
    shown = gallery(first, read_study_file(study), images=100, seed=0)
    assert shown["total"] == len(shown["images"]) == 12
    assert "SPICE" not in shown["metrics"]
    for image in shown["images"]:
        assert len(image["captions"]) == len(image["evidence"]) == len(image["scores"]["CIDEr"]) == 4
        assert image["evidence"][0] is None  # the retrieval floor sees no regions
        assert image["evidence"][1]["words"] == ["dog", "beach", ""]
        assert len(image["references"]) == 2
        place = first[1]
        assert image["captions"][1] == place.captions[image["name"]]
        assert abs(image["scores"]["CIDEr"][1] - 100 * place.cider[image["name"]]) <= 0.05
    pictures = {image["name"]: (image["picture"][:22], image["why"]) for image in shown["images"]}
    assert pictures["0.jpg"] == ("data:image/jpeg;base64", "")
    assert pictures["9.jpg"] == ("", "the picture is no longer where it was")


def test_study_of_an_older_version_has_captions_alone(invent: Callable[..., Path], tmp_path: Path) -> None:
    study = invent(tmp_path / "study")
    (study / "study.json").unlink()
    for file in study.glob("*/seed*/evidence.json"):
        file.unlink()
    first = [runs[0] for runs in by_arm(read_runs(study)).values()]
    image = gallery(first, read_study_file(study), images=1, seed=0)["images"][0]
    assert (image["picture"], image["references"], image["evidence"]) == ("", [], [None] * 4)
    assert "does not say" in image["why"]
