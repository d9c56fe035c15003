"""Where the boxes come from that a detector learns: two COCO files, or a folder with Flickr30k Entities."""

from dataclasses import dataclass, field
from pathlib import Path

from regioncap.experiments.data.boxes import BoxData, align, read_box_file
from regioncap.experiments.data.dataset import DataError
from regioncap.experiments.data.entities import EntityBoxesConfig, read_entities


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSource:
    """Boxes to learn from and boxes to be measured on: `boxes`, `dev` and `images`, or `root` alone."""

    boxes: Path | None = None
    """COCO file of the training boxes: images, categories, annotations (bbox in pixels, attributes if any)."""
    dev: Path | None = None
    """COCO file of the boxes to measure on."""
    images: Path | None = None
    """Folder of the training pictures."""
    dev_images: Path | None = None
    """Folder of the dev pictures, if it is another one."""
    root: Path | None = None
    """Instead of these: a folder in Flickr8k's layout with an entities.jsonl beside train.txt and dev.txt."""
    entities: EntityBoxesConfig = field(default_factory=EntityBoxesConfig)
    """What becomes a class or an attribute of an entities.jsonl."""

    def read(self) -> tuple[BoxData, BoxData]:
        """Training boxes, and dev boxes with the same classes and attributes.

        Raises DataError naming the flag that is missing, or the file that cannot be used.
        """
        files = {"boxes": self.boxes, "dev": self.dev, "images": self.images}
        given = [name for name, value in files.items() if value is not None]
        if self.root is not None:
            if given:
                raise DataError(f"data.root and data.{given[0]} are both given: name a folder or COCO files, not both")
            parts = read_entities(self.root, self.entities)
            train, dev = parts["train"], parts["dev"]
        else:
            for name, value in files.items():
                if value is None:
                    raise DataError(
                        f"data.{name} is not given: name the COCO files of the boxes and the folder of their pictures "
                        "(--data.boxes FILE --data.dev FILE --data.images DIR), or a folder with an entities.jsonl "
                        "(--data.root DIR)"
                    )
            assert self.boxes is not None
            assert self.dev is not None
            assert self.images is not None
            train = read_box_file(self.boxes, self.images)
            dev = align(read_box_file(self.dev, self.dev_images or self.images), train, str(self.dev))
        _refuse_shared(train, dev)
        return train, dev


def _refuse_shared(train: BoxData, dev: BoxData) -> None:
    """What is learned from must not be measured on."""
    shared = {image.path for image in train.images} & {image.path for image in dev.images}
    if shared:
        raise DataError(
            f"{min(shared)} and {len(shared) - 1} more pictures are in the training boxes and in the dev boxes: take "
            "them out of one of the two"
        )
    if not train.count:
        raise DataError("the training pictures have no box at all; there is nothing to learn")
