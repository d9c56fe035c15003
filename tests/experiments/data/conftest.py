"""Small data sets in the formats that the large ones are published in."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

COLOURS = ("red", "green", "blue", "white", "black", "brown", "pink", "grey", "orange", "yellow")


def write_picture(path: Path, number: int) -> None:
    """A JPEG that no other number has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (48, 36), (20 * number % 256, 90, 200))
    picture.putpixel((number % 48, number // 48), (255, 255, 255))
    picture.save(path, quality=95)


def captions_of(number: int) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    return [f"A {colour} dog runs, {number} of 12.", f"The {colour} dog on a beach", f"A dog that is {colour}."]


def write_coco_captions(file: Path, names: Sequence[str], first: int) -> None:
    """captions_*.json as COCO has it, keys that nobody reads included."""
    images = [
        {"license": 5, "file_name": name, "coco_url": "", "height": 36, "width": 48, "id": first + i}
        for i, name in enumerate(names)
    ]
    annotations = [
        {"image_id": first + i, "id": 1000 * (first + i) + k, "caption": text}
        for i in range(len(names))
        for k, text in enumerate(captions_of(first + i))
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"info": {}, "licenses": [], "images": images, "annotations": annotations}))


def karpathy_image(name: str, split: str, number: int, filepath: str | None = None) -> dict[str, object]:
    """An entry of dataset_*.json."""
    sentences = [
        {"tokens": text.lower().rstrip(".").split(), "raw": text, "imgid": number, "sentid": 3 * number + k}
        for k, text in enumerate(captions_of(number))
    ]
    entry = {"sentids": [3 * number + k for k in range(3)], "imgid": number, "filename": name, "split": split}
    more = {} if filepath is None else {"filepath": filepath, "cocoid": number}
    return {**entry, "sentences": sentences, **more}


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Seven images of train2014 and five of val2014, in the official files and in Karpathy's splits."""
    root = tmp_path / "coco"
    images, number = [], 0
    for part, splits in (("train2014", ["train"] * 7), ("val2014", ["restval", "restval", "val", "test", "test"])):
        names = [f"COCO_{part}_{number + i:012}.jpg" for i in range(len(splits))]
        write_coco_captions(root / "annotations" / f"captions_{part}.json", names, number)
        for name, split in zip(names, splits, strict=True):
            write_picture(root / part / name, number)
            images.append(karpathy_image(name, split, number, part))
            number += 1
    (root / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}))
    return root


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    """Ten photographs: the token file, Karpathy's file and Flickr30k Entities."""
    root = tmp_path / "flickr30k"
    images, lines = [], []
    for number, split in enumerate(["train"] * 6 + ["val"] * 2 + ["test"] * 2):
        name = f"{1000092795 + number}.jpg"
        write_picture(root / "flickr30k-images" / name, number)
        images.append(karpathy_image(name, split, number))
        lines += [f"{name}#{k}\t{text}" for k, text in enumerate(captions_of(number))]
        write_entities(root, name, number)
    (root / "results_20130124.token").write_text("\n".join(lines) + "\n")
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": images, "dataset": "flickr30k"}))
    return root


def write_entities(root: Path, name: str, number: int) -> None:
    """Annotations/NAME.xml and Sentences/NAME.txt: a dog, a ball that is the same thing as a toy, scene and time."""
    colour = COLOURS[number % len(COLOURS)]
    stem = Path(name).stem
    for folder in ("Annotations", "Sentences"):
        (root / folder).mkdir(exist_ok=True)
    (root / "Annotations" / f"{stem}.xml").write_text(
        f"""<annotation>
	<filename>{name}</filename>
	<size>
		<width>48</width>
		<height>36</height>
		<depth>3</depth>
	</size>
	<object>
		<name>1</name>
		<bndbox>
			<xmin>1</xmin>
			<ymin>10</ymin>
			<xmax>24</xmax>
			<ymax>36</ymax>
		</bndbox>
	</object>
	<object>
		<name>2</name>
		<name>5</name>
		<bndbox>
			<xmin>31</xmin>
			<ymin>19</ymin>
			<xmax>48</xmax>
			<ymax>36</ymax>
		</bndbox>
	</object>
	<object>
		<name>3</name>
		<scene>1</scene>
		<nobndbox>0</nobndbox>
	</object>
	<object>
		<name>4</name>
		<scene>0</scene>
		<nobndbox>1</nobndbox>
	</object>
</annotation>
"""
    )
    (root / "Sentences" / f"{stem}.txt").write_text(
        f"[/EN#1/animals A {colour} dog] with [/EN#2/other a ball] runs on [/EN#3/scene a beach] .\n"
        f"[/EN#1/animals The dog] has [/EN#5/other a toy] and [/EN#4/other time] .\n"
    )


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Twenty photographs in images/, and no caption file yet."""
    for number in range(20):
        write_picture(tmp_path / "mine" / "images" / f"{number}.jpg", number)
    return tmp_path / "mine"


@pytest.fixture
def rows() -> list[tuple[str, str]]:
    """Three captions for each of them."""
    return [(f"{number}.jpg", text) for number in range(20) for text in captions_of(number)]
