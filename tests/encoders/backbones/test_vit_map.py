import pytest
import torch
from transformers import (
    AutoModel,
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ResNetConfig,
    ResNetModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from regioncap.encoders import VitMapConfig

SMALL = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 64, "patch_size": 16}
MODELS = {
    "vit": lambda: ViTModel(ViTConfig(**SMALL, intermediate_size=32), add_pooling_layer=False),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL)),
    "registers": lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SMALL, num_register_tokens=3)),
}


@pytest.fixture(params=[*MODELS, "clip", "siglip"])
def folder(request, tmp_path):
    if request.param not in MODELS:
        return request.getfixturevalue(f"{request.param}_folder")
    torch.manual_seed(0)
    MODELS[request.param]().save_pretrained(tmp_path)
    if request.param == "vit":
        ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    else:  # as DINOv2 has it
        BitImageProcessor(size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("size", [64, 96])
def test_equals_transformers_patch_by_patch(folder, size):
    backbone = VitMapConfig(weights=str(folder)).build("float32")
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    feature_map = backbone(images)
    side = size // backbone.stride
    assert feature_map.shape == (2, backbone.channels, side, side)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    model = getattr(model, "vision_model", model)
    normalised = (images - backbone.mean / 255) / (backbone.std / 255)
    more = {"interpolate_pos_encoding": True} if size != 64 and model.config.model_type != "dinov2" else {}
    with torch.no_grad():
        try:
            states = model(normalised, **more).last_hidden_state
        except TypeError:
            states = model(normalised).last_hidden_state
    patches = states[:, states.shape[1] - side * side :]
    for row in range(side):
        for column in range(side):
            torch.testing.assert_close(
                feature_map[:, :, row, column], patches[:, side * row + column], atol=1e-4, rtol=1e-4
            )


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(("precision", "cosine"), [("bfloat16", 0.999), ("int8", 0.99)])
def test_cheaper_arithmetic_is_near_and_not_equal(folder, precision, cosine):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    config = VitMapConfig(weights=str(folder))
    exact, rough = config.build("float32")(images), config.build(precision)(images)
    assert rough.dtype == torch.float32
    assert not torch.equal(exact, rough)
    assert torch.cosine_similarity(exact, rough, dim=1).min() > cosine


def test_what_is_missing_or_foreign_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"vit_map\.weights is empty"):
        VitMapConfig(weights="")
    with pytest.raises(ValueError, match=r"facebook/dinov2-small' cannot be loaded .*HF_HUB_OFFLINE"):
        VitMapConfig().build("float32")
    ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1])).save_pretrained(tmp_path)
    BitImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a resnet, which has no square patches"):
        VitMapConfig(weights=str(tmp_path)).build("float32")
