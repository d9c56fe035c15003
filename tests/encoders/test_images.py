import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from regioncap.encoders.images import LARGEST, load_image, read_image


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


def png_header(path, width, height):
    """A PNG that declares a size and holds next to no pixels."""
    chunks = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT": zlib.compress(b"\0" * 9)}
    written = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks.items()
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(20_000, 20_000), (12_000, 9_000)])
def test_picture_too_large_to_decode_is_named_from_its_header(size, tmp_path):
    png_header(tmp_path / "huge.png", *size)
    with pytest.raises(ValueError, match=r"huge\.png is not decoded .*shrink it or remove it") as failure:
        load_image(tmp_path / "huge.png", 32)
    assert "\n" not in str(failure.value)


def test_jpeg_over_the_limit_is_shrunk_while_it_is_decoded(tmp_path):
    picture = Image.new("L", (12_000, 9_000), 100)
    picture.paste(200, (0, 0, 6_000, 9_000))
    assert picture.width * picture.height > LARGEST
    picture.save(tmp_path / "huge.jpg", quality=50)
    image = load_image(tmp_path / "huge.jpg", 32)
    torch.testing.assert_close(image[:, :, 4:12], torch.full((3, 32, 8), 200 / 255), atol=0.02, rtol=0)
    torch.testing.assert_close(image[:, :, 20:28], torch.full((3, 32, 8), 100 / 255), atol=0.02, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(("progressive", "refused"), [(False, False), (True, True)])
def test_memory_of_the_largest_jpeg_is_bounded(progressive, refused, tmp_path):
    """A progressive file keeps the coefficients of its full size: 20,000 x 20,000 would take gigabytes."""
    Image.new("L", (20_000, 20_000), 100).save(tmp_path / "huge.jpg", quality=50, progressive=progressive)
    code = (
        "import sys\nfrom pathlib import Path\nfrom regioncap.encoders import load_image\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024\n"
        "before = peak()\n"
        "try:\n    load_image(Path(sys.argv[1]), 224)\nexcept ValueError as error:\n    print('refused', error)\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "huge.jpg"], capture_output=True, text=True)
    assert ("refused" in done.stdout) is refused, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 200  # MiB


@pytest.mark.parametrize("progressive", [False, True])
def test_at_least_bounds_what_the_decoder_leaves_out(progressive, picture, tmp_path):
    picture.resize((800, 600)).save(tmp_path / "a.jpg", progressive=progressive)
    assert read_image(tmp_path / "a.jpg").size == (800, 600)
    assert read_image(tmp_path / "a.jpg", at_least=150).size == (200, 150)
    assert read_image(tmp_path / "a.jpg", at_least=151).size == (400, 300)


def test_one_pixel_is_a_picture(tmp_path):
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "a.png")
    wanted = torch.tensor([1.0, 0.0, 0.2]).view(3, 1, 1).expand(3, 16, 16)
    torch.testing.assert_close(load_image(tmp_path / "a.png", 16), wanted)


def test_first_frame_of_an_animation_is_the_picture(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(load_image(tmp_path / "a.gif", 8)[0], torch.ones(8, 8))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(mode, tmp_path):
    Image.new(mode, (8, 8), 70000).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match=r"a\.tiff does not decode \(pixels of unknown range"):
        load_image(tmp_path / "a.tiff", 8)


def decodes_or_is_named(path):
    try:
        return load_image(path, 8).shape == (3, 8, 8)
    except ValueError as error:
        return path.name in str(error) and "\n" not in str(error)


STARTS = [b"", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n\x1a\n"]


@given(content=st.binary(min_size=1, max_size=200), start=st.sampled_from(STARTS))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_a_picture_or_one_line(content, start, tmp_path):
    path = tmp_path / "any"
    path.write_bytes(start + content)
    assert decodes_or_is_named(path)


@given(cut=st.floats(0, 1), kind=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_part_of_a_picture_is_a_picture_or_one_line(cut, kind, picture, tmp_path):
    whole = io.BytesIO()
    picture.save(whole, kind)
    path = tmp_path / "part"
    path.write_bytes(whole.getvalue()[: int(cut * len(whole.getvalue()))])
    assert decodes_or_is_named(path)
