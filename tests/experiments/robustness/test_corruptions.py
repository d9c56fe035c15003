import colorsys
import io
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from regioncap.experiments.robustness.corruptions import CORRUPTIONS, GREY, LEVELS, corrupt

EVERY = pytest.mark.parametrize("corruption", CORRUPTIONS)


def picture(width: int = 90, height: int = 60, seed: int = 0) -> Image.Image:
    """Coarse colours under fine texture; nothing in it is GREY."""
    drawn = np.random.default_rng(seed)
    coarse = Image.fromarray(drawn.integers(0, 256, (4, 6, 3), dtype=np.uint8)).resize((width, height), Image.BILINEAR)
    values = np.asarray(coarse).astype(int) + drawn.integers(-9, 10, (height, width, 3))
    values[(values == GREY[0]).all(-1)] += 1
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def changed(corruption: str, level: int, source: Image.Image, name: str = "a.jpg") -> np.ndarray:
    strength = CORRUPTIONS[corruption].strengths[level - 1]
    return np.asarray(corrupt(source, corruption, strength, name)).astype(int)


def test_there_are_seven_with_five_strengths_each() -> None:
    assert list(CORRUPTIONS) == ["occlusion", "blur", "noise", "jpeg", "brightness", "crop", "rotation"]
    assert all(len(corruption.strengths) == len(LEVELS) == 5 for corruption in CORRUPTIONS.values())


@EVERY
def test_same_name_same_picture_and_the_source_stays(corruption: str) -> None:
    source = picture()
    before = np.asarray(source).copy()
    once, again = (changed(corruption, 3, source) for _ in range(2))
    assert np.array_equal(once, again)
    assert np.array_equal(np.asarray(source), before)
    drawn = not np.array_equal(once, changed(corruption, 3, source, "another.jpg"))
    if corruption != "rotation":  # it has two ways only
        assert drawn == (corruption in ("occlusion", "noise", "crop"))


@EVERY
def test_it_gets_worse_with_the_level(corruption: str) -> None:
    source = picture()
    original = np.asarray(source).astype(int)
    if corruption == "crop":
        sizes = [changed(corruption, level, source).shape[0] for level in LEVELS]
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == 5
    else:
        far = [np.abs(changed(corruption, level, source) - original).mean() for level in LEVELS]
        assert far == sorted(far)
        assert far[0] > 0


@EVERY
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (31, 17)])
def test_any_size_comes_out_as_rgb(corruption: str, size: tuple[int, int]) -> None:
    out = corrupt(picture(*size), corruption, CORRUPTIONS[corruption].strengths[-1], "a.jpg")
    assert out.mode == "RGB"
    assert out.size == size or corruption == "crop"
    assert min(out.size) >= 1


@settings(max_examples=20, deadline=None)
@given(name=st.text(max_size=8), width=st.integers(8, 120), height=st.integers(8, 120), seed=st.integers(0, 5))
def test_occluded_shares_are_as_said_and_each_lies_in_the_next(name: str, width: int, height: int, seed: int) -> None:
    source = picture(width, height, seed)
    original, inner = np.asarray(source), np.zeros((height, width), bool)
    for level, share in zip(LEVELS, CORRUPTIONS["occlusion"].strengths, strict=True):
        out = changed("occlusion", level, source, name)
        grey = (out == GREY[0]).all(-1)
        high, wide = round(math.sqrt(share) * height), round(math.sqrt(share) * width)
        assert grey.sum() == high * wide
        assert grey.any(1).sum() == high
        assert grey.any(0).sum() == wide  # one rectangle
        assert np.array_equal(out[~grey], original[~grey])
        assert (grey >= inner).all()
        inner = grey


@settings(max_examples=15, deadline=None)
@given(name=st.text(max_size=8), width=st.integers(8, 80), height=st.integers(8, 80))
def test_crop_is_a_window_of_the_picture(name: str, width: int, height: int) -> None:
    source = np.asarray(picture(width, height)).astype(int)
    for level, share in zip(LEVELS, CORRUPTIONS["crop"].strengths, strict=True):
        out = changed("crop", level, picture(width, height), name)
        high, wide = (round(math.sqrt(1 - share) * side) for side in (height, width))
        assert out.shape == (high, wide, 3)
        windows = np.lib.stride_tricks.sliding_window_view(source, (high, wide, 3))[:, :, 0]
        assert (windows == out).all((-1, -2, -3)).any()


def test_noise_has_its_deviation_and_the_same_pattern_at_every_level() -> None:
    flat = Image.new("RGB", (150, 150), (127, 127, 127))
    patterns = [changed("noise", level, flat) - 127 for level in LEVELS]
    for pattern, deviation in zip(patterns[:2], CORRUPTIONS["noise"].strengths, strict=False):
        assert pattern.std() == pytest.approx(255 * deviation, rel=0.02)
        assert abs(pattern.mean()) < 1
    scaled = np.round(patterns[0] * 0.12 / 0.08)
    assert np.abs(patterns[1] - scaled)[np.abs(patterns[1]) < 120].max() <= 2


def test_blur_is_a_gaussian_of_the_shorter_side() -> None:
    source = picture(448, 300)
    sigma = 3.0 * 300 / 224
    want = np.stack(
        [gaussian_filter(np.asarray(source)[..., c].astype(float), sigma, mode="nearest") for c in range(3)], -1
    )
    far = np.abs(changed("blur", 3, source) - want)
    assert far.mean() < 1.5  # Pillow's is made of box blurs
    assert np.abs(np.asarray(source) - want).mean() > 3 * far.mean()


def test_brightness_raises_v_of_hsv() -> None:
    source = picture(24, 16)
    values = np.asarray(source).copy()
    values[0, 0] = 0
    out = changed("brightness", 2, Image.fromarray(values))
    for row in range(16):
        for column in range(24):
            hue, saturation, value = colorsys.rgb_to_hsv(*(values[row, column] / 255))
            want = np.array(colorsys.hsv_to_rgb(hue, saturation, min(1.0, value + 0.2))) * 255
            assert np.abs(out[row, column] - want).max() <= 0.51


def test_jpeg_is_stored_at_its_quality() -> None:
    source, file = picture(), io.BytesIO()
    source.save(file, "JPEG", quality=15)
    assert np.array_equal(changed("jpeg", 3, source), np.asarray(Image.open(file)))


def test_rotation_turns_about_the_middle_and_fills_with_grey() -> None:
    source = picture(81, 81)
    out = changed("rotation", 5, source)
    turned = {sign: np.asarray(source.rotate(sign * 45, Image.BICUBIC, fillcolor=GREY)) for sign in (-1, 1)}
    assert any(np.array_equal(out, other) for other in turned.values())
    assert (out[0, 0] == GREY[0]).all()
    assert np.abs(out[40, 40] - np.asarray(source)[40, 40]).max() <= 2
    names = [f"{number}.jpg" for number in range(12)]
    assert len({changed("rotation", 5, source, name).tobytes() for name in names}) == 2  # either way


def test_an_unknown_corruption_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="fog"):
        corrupt(picture(), "fog", 1.0, "a.jpg")
