import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from regioncap.encoders import ClipEncoder, ClipEncoderConfig, ImageEncoder
from regioncap.encoders.weights import load_pretrained

WORDS = ["a dog runs", "snow", "two men stand beside a red boat"]


@pytest.fixture(params=["clip", "siglip"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def config(folder):
    return ClipEncoderConfig(weights=str(folder))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Four pictures, wide, high, square and smaller than the model's, blobs rather than noise."""
    folder, paths = tmp_path_factory.mktemp("pictures"), []
    draw = torch.Generator().manual_seed(1)
    for i, size in enumerate([(150, 90), (70, 130), (64, 64), (40, 31)]):
        blobs = (torch.rand(5, 6, 3, generator=draw) * 255).byte().numpy()
        paths.append(folder / f"{i}.png")
        Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def columns(encoder, paths):
    return [torch.stack(column) for column in zip(*(encoder.load(path) for path in paths), strict=True)]


@torch.no_grad()
def published(folder, paths):
    """What transformers itself says: the image embeddings and the last hidden states."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt").pixel_values
    return model.get_image_features(pixel_values=pixels).pooler_output, model.vision_model(pixels).last_hidden_state


@pytest.mark.parametrize("left", [0, 1, 2])
def test_equals_transformers_wherever_it_is_cut(folder, config, pictures, left):
    encoder = replace(config, trainable_layers=left).build()
    pixels, frames = columns(encoder, pictures)
    embedded, hidden = published(folder, pictures)
    unit = torch.nn.functional.normalize(embedded, dim=-1)
    seen = encoder(pixels, frames)
    torch.testing.assert_close(encoder.tail.embed_image(seen.pooled), unit, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.embed_image(pixels), unit, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.pool(pixels), seen.pooled, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(seen.regions.features, hidden[:, -16:], atol=1e-4, rtol=1e-5)
    # It is a test only if the pictures, and the layers left out, make a difference.
    assert (unit @ unit.T).min() < 0.999


def test_texts_equal_transformers_and_their_batch_mates_change_nothing(folder, config):
    encoder = config.build()
    model, tokenizer = (
        AutoModel.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    length = model.config.text_config.max_position_embeddings
    with torch.no_grad():
        for text, ours in zip(WORDS, encoder.embed_text([*WORDS, WORDS[0]]), strict=False):
            tokens = tokenizer([text], padding="max_length", truncation=True, max_length=length, return_tensors="pt")
            theirs = model.get_text_features(**tokens).pooler_output[0]
            torch.testing.assert_close(ours, theirs / theirs.norm(), atol=1e-5, rtol=0)
    assert encoder.text.embed([]).shape == (0, encoder.text.dim)
    assert encoder.embed_text(["dog " * 200]).isfinite().all()


def test_shapes_are_those_announced(config, pictures):
    encoder = config.build()
    assert isinstance(encoder, ImageEncoder)
    seen = encoder(*columns(encoder, pictures))
    assert seen.pooled.shape == (4, encoder.pooled_dim)
    assert seen.regions.features.shape == (4, encoder.regions_per_image, encoder.region_dim) == (4, 16, 32)
    assert seen.regions.words.shape == (4, 16, 0)
    assert bool(seen.regions.valid.all())
    assert encoder.tail.embed_image(seen.pooled).shape == encoder.embed_text([*WORDS, "x"]).shape == (4, encoder.dim)
    open_encoder = replace(config, trainable_layers=2).build()
    assert open_encoder.pooled_dim == open_encoder.pool(columns(encoder, pictures)[0]).shape[1] >= 16 * 32


def test_patches_tile_what_the_checkpoint_sees(clip_folder, siglip_folder, pictures):
    cropped = ClipEncoderConfig(weights=str(clip_folder)).build()
    boxes = cropped(*columns(cropped, pictures[:2])).regions.boxes
    # The wide picture, 150x90, loses 30 pixels on each side (up to rounding: 106 of 64 are cut), the high one above.
    torch.testing.assert_close(boxes[0, 0], torch.tensor([0.2, 0.0, 0.35, 0.25]), atol=5e-3, rtol=0)
    torch.testing.assert_close(boxes[1, 15, 2:], torch.tensor([1.0, 1 - 30 / 130]), atol=5e-3, rtol=0)
    squeezed = ClipEncoderConfig(weights=str(siglip_folder)).build()
    boxes = squeezed(*columns(squeezed, pictures[:1])).regions.boxes[0]
    torch.testing.assert_close(boxes[5], torch.tensor([0.25, 0.25, 0.5, 0.5]))
    assert (boxes[:, 2:] - boxes[:, :2]).prod(1).sum() == pytest.approx(1.0)


def test_batch_mates_change_nothing(config, pictures):
    encoder = config.build()
    pixels, frames = columns(encoder, pictures)
    together, alone = encoder(pixels, frames), encoder(pixels[2:3], frames[2:3])
    torch.testing.assert_close(together.pooled[2:3], alone.pooled, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.regions.features[2:3], alone.regions.features, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(("precision", "cosine"), [("bfloat16", 0.999), ("int8", 0.995)])
def test_cheaper_arithmetic_is_near_and_not_equal(config, pictures, precision, cosine):
    exact, rough = config.build(), replace(config, precision=precision).build()
    pixels = columns(exact, pictures)[0]
    one, other = exact.embed_image(pixels), rough.embed_image(pixels)
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    assert torch.cosine_similarity(one, other).min() > cosine
    assert torch.equal(exact.embed_text(WORDS), rough.embed_text(WORDS))  # texts are few and stay exact


def test_encoder_is_frozen(config):
    encoder = config.build()
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().training


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_missing_file_is_named(folder, name, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / name).unlink()
    with pytest.raises(ValueError, match=rf"broken has no {name}[^\n]*: give clip\.weights[^\n]*$"):
        ClipEncoderConfig(weights=str(broken)).build()


def test_missing_tokenizer_is_named(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    for name in ("tokenizer.json", "vocab.json", "spiece.model"):
        (broken / name).unlink(missing_ok=True)
    with pytest.raises(ValueError, match=r"broken has no tokenizer\.json or .*: give clip\.weights"):
        ClipEncoderConfig(weights=str(broken)).build()


def test_pickled_weights_load_without_running_code(folder, config, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    (old / "model.safetensors").unlink()
    state = AutoModel.from_pretrained(folder, dtype=torch.float32).state_dict()
    torch.save(state, old / "pytorch_model.bin")
    one, other = config.build(), ClipEncoderConfig(weights=str(old)).build()
    assert torch.equal(one.embed_text(WORDS), other.embed_text(WORDS))
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (trap.write_text, ("ran",))

    torch.save(state | {"logit_scale": Trap()}, old / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be loaded \(its weights file holds more than tensors[^\n]+$"):
        ClipEncoderConfig(weights=str(old)).build()
    assert not trap.exists()


def test_hub_name_without_a_hub_is_one_clear_line():
    with pytest.raises(ValueError, match=r"HF_HUB_OFFLINE") as failure:
        ClipEncoderConfig().build()
    assert "openai/clip-vit-base-patch32" in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "http" not in str(failure.value)


def test_other_models_are_refused(clip_folder, tmp_path):
    from transformers import BertConfig, BertModel

    shutil.copytree(clip_folder, tmp_path / "bert")
    small = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=600, **small)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="bert is a bert, not a CLIP or SigLIP"):
        ClipEncoderConfig(weights=str(tmp_path / "bert")).build()


def test_bad_config_and_bad_input_are_named(config):
    with pytest.raises(ValueError, match=r"clip\.weights is empty"):
        ClipEncoderConfig(weights="")
    with pytest.raises(ValueError, match=r"clip\.trainable_layers must not be negative, got -1"):
        ClipEncoderConfig(trainable_layers=-1)
    with pytest.raises(ValueError, match="has 3 layers"):
        replace(config, trainable_layers=3).build()
    with pytest.raises(ValueError, match=r"\(32, 64\) high and wide, the CLIP wants \(64, 64\)"):
        config.build().pool(torch.zeros(1, 3, 32, 64))
    with pytest.raises(ValueError, match=r"there is no folder \./nowhere"):
        ClipEncoderConfig(weights="./nowhere").build()


def test_weights_that_lack_tensors_are_refused(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    state = {k: v for k, v in model.state_dict().items() if "layers.1." not in k}
    model.save_pretrained(broken, state_dict=state)
    with pytest.raises(ValueError, match=r"lack \d+ tensors, .*layers\.1\."):
        load_pretrained(AutoModel, str(broken), what="CLIP", way_out="give another")
    assert isinstance(ClipEncoderConfig(weights=str(folder)).build(), ClipEncoder)
