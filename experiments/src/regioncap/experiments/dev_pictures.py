"""The same few dev pictures at every dev evaluation: how regions, words and caption of an arm come about."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from regioncap.experiments.captioner import Captioner
from regioncap.experiments.generate import Generated
from regioncap.experiments.pictures import draw

COUNT = 10
"""Pictures of each evaluation, the first of the dev split."""
_LONGEST = 420
"""Pixels; a page of ten fits on a screen, and a study of many arms stays small."""
_QUALITY = 85


class DevPictures:
    """Draws the first `count` pictures of a batch, whose photographs are `paths`, into folders of `folder`."""

    def __init__(self, folder: Path, paths: Sequence[Path], count: int = COUNT) -> None:
        self.folder = folder
        self.paths = list(paths[:count])

    def __call__(self, step: int, captioner: Captioner, generated: Generated) -> list[Path]:
        """Draw them as the captioner sees them after `step`; returns the files, in the order of the images."""
        into = self.folder / f"step{step:06d}"
        into.mkdir(parents=True, exist_ok=True)
        paths = self.paths[: len(generated.texts)]
        targets = [into / f"{path.stem}.jpg" for path in paths]
        draw(captioner, generated, paths, targets)
        for target in targets:
            with Image.open(target) as picture:
                small = picture.convert("RGB")
                small.thumbnail((_LONGEST, _LONGEST))
            small.save(target, quality=_QUALITY)
        return targets
