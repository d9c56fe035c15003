import pytest
import torch
from torch import nn

from regioncap.encoders.arithmetic import arithmetic, computes_bfloat16, keeps_bfloat16
from regioncap.encoders.backbones import EfficientNetLiteConfig
from regioncap.encoders.fast_linear import BFloat16Linear, Float32Linear, PatchConvolution, quicken


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.Linear(4, 5))


@pytest.mark.filterwarnings("ignore:this cpu has no bfloat16")
def test_without_bfloat16_float32_takes_its_place(processor):
    processor(False)
    with arithmetic("cpu", "bfloat16") as context:
        assert not context._enabled
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert not keeps_bfloat16("bfloat16")
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        exact, asked = (EfficientNetLiteConfig().build(p)(images) for p in ("float32", "bfloat16"))
    assert torch.equal(exact, asked)


def test_says_so_once(processor):
    processor(False)
    with pytest.warns(UserWarning, match="this cpu has no bfloat16 arithmetic") as said:
        answers = [computes_bfloat16(device) for device in ("cpu", torch.device("cpu"), "cpu")]
    assert answers == [False] * 3
    assert len(said) == 1


def test_with_bfloat16_it_is_used(processor):
    processor(True)
    assert keeps_bfloat16("bfloat16")
    assert not keeps_bfloat16("float32")
    with arithmetic("cpu", "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with arithmetic("cpu", "float32"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.filterwarnings("ignore:this cpu has no bfloat16")
@pytest.mark.parametrize(("has", "kind"), [(True, BFloat16Linear), (False, Float32Linear)])
def test_frozen_layers_are_what_the_processor_computes(processor, has, kind):
    processor(has)
    quick = layers()
    quicken(quick, "bfloat16")
    assert isinstance(quick[2], kind)
    assert isinstance(quick[0], PatchConvolution) == has


def test_gpus_without_bfloat16_take_float32_too(processor, monkeypatch):
    processor(True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.warns(UserWarning, match="this cuda has no bfloat16"):
        assert not keeps_bfloat16("bfloat16")
