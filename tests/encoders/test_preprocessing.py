import json

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor

from regioncap.encoders.preprocessing import load_preprocessing

# The file that openai/clip-vit-base-patch32 has: sizes as bare numbers, a class that transformers 5 no longer has.
PUBLISHED = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


@pytest.fixture(scope="module")
def photographs():
    """Pictures with photographs' smoothness and grain, of photographs' sizes."""
    draw, pictures = torch.Generator().manual_seed(3), []
    for size in [(500, 375), (333, 500), (224, 224), (640, 427), (101, 1000), (150, 120)]:
        blobs = Image.fromarray((torch.rand(9, 9, 3, generator=draw) * 255).byte().numpy())
        grain = Image.fromarray((torch.rand(size[1], size[0], 3, generator=draw) * 255).byte().numpy())
        pictures.append(Image.blend(blobs.resize(size, Image.Resampling.BICUBIC), grain, 0.15))
    return pictures


def store(folder, processor):
    if isinstance(processor, dict):
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    else:
        processor.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    "processor",
    [
        PUBLISHED,
        CLIPImageProcessor(size={"shortest_edge": 240}, crop_size={"height": 200, "width": 220}),
        SiglipImageProcessor(size={"height": 256, "width": 256}),
        ViTImageProcessor(size={"height": 224, "width": 224}, resample=2),
        CLIPImageProcessor(do_normalize=False),
        CLIPImageProcessor(do_rescale=False, resample=2),
    ],
    ids=["published", "odd crop", "siglip", "vit", "not normalised", "not scaled"],
)
def test_equals_the_image_processor_to_the_last_bit(processor, photographs, tmp_path):
    source = store(tmp_path, processor)
    ours = load_preprocessing(source)
    theirs = AutoImageProcessor.from_pretrained(source)
    for picture in photographs:
        pixels = ours.pixels(picture)
        assert pixels.shape == (3, *ours.size)
        expected = theirs(picture, return_tensors="pt").pixel_values[0]
        torch.testing.assert_close(pixels, expected, atol=0 if theirs.do_normalize else 1e-7, rtol=0)


def test_frame_is_the_part_that_is_left(tmp_path, photographs):
    """A marked rectangle is where the frame says it is."""
    ours = load_preprocessing(store(tmp_path, CLIPImageProcessor(do_normalize=False)))
    picture = Image.new("RGB", (448, 224))
    picture.paste((255, 255, 255), (168, 56, 280, 168))  # 3/8 to 5/8 across, 1/4 to 3/4 down
    assert ours.frame(picture.size).tolist() == [0.25, 0.0, 0.75, 1.0]
    bright = ours.pixels(picture)[0] > 0.5
    assert bright[56:168, 56:168].all()
    assert bright.sum() == 112 * 112


def test_load_reads_a_file(tmp_path, photographs):
    ours = load_preprocessing(store(tmp_path, SiglipImageProcessor()))
    photographs[0].save(tmp_path / "photograph.png")
    pixels, frame = ours.load(tmp_path / "photograph.png")
    assert torch.equal(pixels, ours.pixels(photographs[0]))
    assert frame.tolist() == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"missing\.png"):
        ours.load(tmp_path / "missing.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"do_center_crop": False}, "no fixed size"),
        ({"do_resize": False}, "pads or does not resize"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "no fixed size"),
    ],
)
def test_what_is_not_supported_is_refused(change, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        load_preprocessing(store(tmp_path, PUBLISHED | change))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no image processor that loads .*: copy preprocessor_config\.json"):
        load_preprocessing(str(tmp_path))
