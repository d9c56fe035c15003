from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from regioncap.experiments.arms import ARMS
from regioncap.experiments.captioner import Captioner
from regioncap.experiments.config import Experiment
from regioncap.experiments.dev_pictures import DevPictures
from regioncap.experiments.generate import CaptionGenerator
from regioncap.experiments.prepare import Prepared


@pytest.mark.parametrize("arm", ["clipcap", "+graph+guidance"])
def test_the_same_pictures_are_drawn_at_every_step(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, tmp_path: Path, arm: str
) -> None:
    assert arm in ARMS
    captioner = make_captioner(arm)
    generate = CaptionGenerator(captioner, prepared.tokenizer, tiny.search)
    generated = generate(prepared.dev.images(torch.arange(4)), "abcd")
    paths = [image.path for image in prepared.dev_images]
    draw = DevPictures(tmp_path, paths, count=3)
    early, late = draw(20, captioner, generated), draw(40, captioner, generated)
    assert [file.stem for file in early] == [file.stem for file in late] == [path.stem for path in paths[:3]]
    assert [file.parent.name for file in (early[0], late[0])] == ["step000020", "step000040"]
    for file in (*early, *late):
        with Image.open(file) as picture:
            assert max(picture.size) <= 420
        assert file.stat().st_size < 100_000


def test_a_dev_split_of_fewer_pictures_is_drawn_whole(
    make_captioner: Callable[[str], Captioner], prepared: Prepared, tiny: Experiment, tmp_path: Path
) -> None:
    captioner = make_captioner("+graph")
    generated = CaptionGenerator(captioner, prepared.tokenizer, tiny.search)(prepared.dev.images(torch.arange(2)), "ab")
    paths = [image.path for image in prepared.dev_images]
    assert len(DevPictures(tmp_path, paths)(1, captioner, generated)) == 2
