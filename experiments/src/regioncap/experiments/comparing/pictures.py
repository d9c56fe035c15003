"""Where the photographs of a run's images lie: in a folder that was named, else where the study found them."""

from collections.abc import Mapping
from pathlib import Path

from regioncap.experiments.comparing.runs import Run
from regioncap.experiments.scoring.gallery import PictureFolder, thumbnail


class RunPictures:
    """The photographs of the images of runs."""

    def __init__(self, runs: tuple[Run, ...], folder: Path | None) -> None:
        """Raises ValueError if `folder` is named and not there."""
        self._folder = PictureFolder(folder) if folder else None
        self._paths: Mapping[str, Path] = {
            name: image.path for run in reversed(runs) for name, image in run.images.items()
        }

    def find(self, name: str) -> Path | None:
        """The file of an image's photograph; None where nothing tells it or it is gone."""
        path = self._folder.find(name) if self._folder else self._paths.get(name)
        return path if path is not None and path.is_file() else None

    def thumbnail(self, name: str) -> tuple[str, str]:
        """A small JPEG as a `data:` address and "", or "" and why there is none."""
        path = self.find(name)
        return thumbnail(path) if path else ("", "not found; name the folder of the pictures with --images")
