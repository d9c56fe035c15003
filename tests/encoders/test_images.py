import numpy as np
import pytest
import torch
from PIL import Image

from regioncap.encoders import load_image


@pytest.fixture
def picture() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def halves(left: tuple[int, int, int], right: tuple[int, int, int], width: int = 64, height: int = 32) -> Image.Image:
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def test_same_size_is_read_exactly(picture, tmp_path):
    picture.resize((48, 48)).save(tmp_path / "a.png")
    expected = torch.from_numpy(np.array(picture.resize((48, 48)))).permute(2, 0, 1) / 255
    assert torch.equal(load_image(tmp_path / "a.png", 48), expected)


def test_aspect_is_squeezed(tmp_path):
    halves((255, 0, 0), (0, 0, 255)).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 16)
    assert image.shape == (3, 16, 16)
    torch.testing.assert_close(image[:, :, :6], torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 16, 6))
    torch.testing.assert_close(image[:, :, 10:], torch.tensor([0.0, 0.0, 1.0]).view(3, 1, 1).expand(3, 16, 6))


def test_exif_turns_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn: left becomes top
    halves((255, 255, 255), (0, 0, 0)).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = load_image(tmp_path / "a.jpg", 32)
    assert image[:, :12].min() > 0.9
    assert image[:, 20:].max() < 0.1


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "jpg"), ("1", "png"), ("RGB", "webp"), ("RGB", "gif")],
)
def test_every_mode_becomes_rgb(picture, mode, suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    picture.convert(mode).save(path)
    image = load_image(path, 32)
    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.float32
    assert 0.0 <= image.min() < image.max() <= 1.0


def test_sixteen_bit_grey_keeps_its_range(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png", 8)
    torch.testing.assert_close(image[0].flatten(), torch.linspace(0, 1, 64), atol=0.01, rtol=0)


def test_large_jpeg_is_shrunk_faithfully(tmp_path):
    gradient = np.tile(np.linspace(0, 255, 2000, dtype=np.uint8)[None, :, None], (1500, 1, 3))
    Image.fromarray(gradient).save(tmp_path / "a.jpg", quality=95)
    image = load_image(tmp_path / "a.jpg", 32)
    expected = (torch.arange(32) + 0.5) / 32
    torch.testing.assert_close(image[0], expected.expand(32, 32), atol=0.02, rtol=0)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file_is_named(picture, suffix, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    picture.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut\.{suffix} does not decode \(.+\): fetch it again") as failure:
        load_image(path, 32)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"just text", r"does not decode \(not an image\)"), (b"\xff\xd8\xff", "does not decode")],
)
def test_what_is_no_image_is_named(content, message, tmp_path):
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.jpg {message}") as failure:
        load_image(path, 32)
    assert "\n" not in str(failure.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no image file .*gone\.jpg"):
        load_image(tmp_path / "gone.jpg", 32)
    with pytest.raises(ValueError, match="no image file"):
        load_image(tmp_path, 32)
