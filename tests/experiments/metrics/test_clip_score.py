from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from regioncap.encoders import ClipEncoderConfig, GridEncoderConfig, VitMapConfig
from regioncap.experiments.metrics.clip_score import ClipScore

CAPTIONS = {"0.png": "a dog runs", "1.png": "two men stand beside a red boat", "2.png": "snow"}
REFERENCES = {
    "0.png": ["a dog runs", "a brown dog on grass"],
    "1.png": ["men by a boat"],
    "2.png": ["a white field", "snow on a hill", "winter"],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, files = tmp_path_factory.mktemp("pictures"), {}
    draw = np.random.default_rng(3)
    for name in CAPTIONS:
        files[name] = folder / name
        Image.fromarray(draw.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(files[name])
    return files


@pytest.fixture(params=["clip", "siglip"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(f"{request.param}_folder")


@torch.no_grad()
def by_the_paper(folder: Path, pictures: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Its two equations, by transformers alone, one pair at a time."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor, tokenizer = AutoImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    padding: Any = "max_length" if model.config.model_type == "siglip" else True
    length = model.config.text_config.max_position_embeddings

    def text(caption: str) -> torch.Tensor:
        tokens = tokenizer(
            ["A photo depicts " + caption], padding=padding, truncation=True, max_length=length, return_tensors="pt"
        )
        return model.get_text_features(**tokens).pooler_output[0]

    found: dict[str, dict[str, float]] = {"CLIPScore": {}, "RefCLIPScore": {}}
    for image, caption in CAPTIONS.items():
        pixels = processor(Image.open(pictures[image]), return_tensors="pt").pixel_values
        seen = model.get_image_features(pixel_values=pixels).pooler_output[0]
        fits = 2.5 * max(torch.cosine_similarity(text(caption), seen, dim=0).item(), 0)
        near = max(torch.cosine_similarity(text(caption), text(other), dim=0).item() for other in REFERENCES[image])
        found["CLIPScore"][image] = fits
        found["RefCLIPScore"][image] = 2 / (1 / fits + 1 / near) if fits > 0 and near > 0 else 0.0
    return found


def test_equals_the_equations(folder: Path, pictures: dict[str, Path]) -> None:
    judge = ClipScore(ClipEncoderConfig(weights=str(folder)).build(), batch_size=2)
    measured = judge.measure(CAPTIONS, pictures, REFERENCES)
    wanted = by_the_paper(folder, pictures)
    for name, values in wanted.items():
        assert measured.per_image[name] == pytest.approx(values, abs=2e-5)
        assert measured.corpus[name] == pytest.approx(np.mean(list(values.values())), abs=2e-5)


class Flat:
    """A judge whose vectors are known: the picture's name and the text's last word say where they point."""

    PLACES: ClassVar = {"east": (1.0, 0.0), "north": (0.0, 1.0), "west": (-1.0, 0.0), "northeast": (0.6, 0.8)}

    def __init__(self) -> None:
        self.looked: list[str] = []
        self.read: list[str] = []

    def load(self, file: Path) -> tuple[torch.Tensor, None]:
        self.looked.append(file.name)
        return torch.tensor(self.PLACES[file.name]), None

    def embed_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        assert all(text.startswith("A photo depicts ") for text in texts)
        self.read += texts
        return torch.tensor([self.PLACES[text.split()[-1]] for text in texts])


@pytest.fixture
def flat(clip_folder: Path) -> tuple[Any, Flat]:
    """CLIPScore, and the judge that it has been given."""
    score, flat = ClipScore(ClipEncoderConfig(weights=str(clip_folder)).build()), Flat()
    score.judge = flat  # type: ignore[assignment]
    return score, flat


@pytest.mark.parametrize(
    ("picture", "caption", "references", "fits", "with_references"),
    [
        ("east", "west", ["west"], 0.0, 0.0),
        ("east", "east", ["west"], 2.5, 0.0),
        ("east", "northeast", ["west", "north"], 2.5 * 0.6, 2 * 1.5 * 0.8 / (1.5 + 0.8)),
    ],
)
def test_cosines_below_zero_count_nothing(
    flat: tuple[Any, Flat], picture: str, caption: str, references: list[str], fits: float, with_references: float
) -> None:
    measured = flat[0].measure({"i": caption}, {"i": Path(picture)}, {"i": references})
    assert measured.corpus["CLIPScore"] == pytest.approx(fits)
    assert measured.corpus["RefCLIPScore"] == pytest.approx(with_references)


def test_pictures_and_references_are_encoded_once(flat: tuple[Any, Flat]) -> None:
    score, judge = flat
    files = {"a": Path("east"), "b": Path("north")}
    for caption in ("east", "northeast"):
        score.measure({"a": caption, "b": caption}, files, {"a": ["west", "north"], "b": ["north"]})
    assert judge.looked == ["east", "north"]
    assert judge.read == ["A photo depicts " + word for word in ("west", "north", *["east"] * 2, *["northeast"] * 2)]


def test_a_missing_or_broken_picture_is_named(clip_folder: Path, tmp_path: Path) -> None:
    judge = ClipScore(ClipEncoderConfig(weights=str(clip_folder)).build())
    with pytest.raises(ValueError, match="no file of image 'x'"):
        judge.measure({"x": "a dog"}, {}, {"x": ["a dog"]})
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.jpg"):
        judge.measure({"x": "a dog"}, {"x": tmp_path / "broken.jpg"}, {"x": ["a dog"]})


def test_knows_itself_whatever_it_is_called_and_in_whatever_arithmetic(
    clip_folder: Path, siglip_folder: Path, tmp_path: Path
) -> None:
    judge = ClipScore(ClipEncoderConfig(weights=str(clip_folder)).build())
    (tmp_path / "other name").symlink_to(clip_folder)
    same = ClipEncoderConfig(weights=str(tmp_path / "other name"), trainable_layers=1, precision="bfloat16").build()
    assert judge.judges_itself(torch.nn.ModuleList([torch.nn.Linear(2, 2), same]))
    grid = GridEncoderConfig(backbone=VitMapConfig(weights=str(clip_folder)), image_size=64)
    assert judge.judges_itself(grid.build())
    assert not judge.judges_itself(ClipEncoderConfig(weights=str(siglip_folder)).build())
    assert not judge.judges_itself(torch.nn.Linear(2, 2))
