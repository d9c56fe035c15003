from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from regioncap.encoders import load_image
from regioncap.encoders.store import fingerprint


@dataclass(frozen=True, kw_only=True)
class NetConfig:
    weights: str = "here"
    folder: Path = Path("there")
    threshold: float = 0.5
    size: int = 8


class Net(nn.Module):
    pooled_dim = region_dim = 4
    regions_per_image, words, words_per_region = 2, ("a", "b"), 1

    def __init__(self, config=None, mean=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.config, self.mean = config or NetConfig(), mean
        self.layer = nn.Linear(3, 4)
        self.register_buffer("kept", torch.ones(2, dtype=torch.bfloat16))

    def load(self, path):
        return load_image(path, self.config.size) - self.mean, torch.zeros(4)


def test_same_encoder_elsewhere_is_the_same():
    moved = Net(NetConfig(weights="elsewhere", folder=Path("far")))
    assert fingerprint(moved).key == fingerprint(Net()).key
    assert fingerprint(moved).difference(fingerprint(Net())) == ""
    assert fingerprint(Net().to(memory_format=torch.channels_last)).key == fingerprint(Net()).key


def nudged():
    net = Net()
    net.layer.weight.data[0, 0] += 1e-6
    return net


def renamed():
    net = Net()
    net.words = ("a", "c")
    return net


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Net(replace(NetConfig(), threshold=0.4)), "config.threshold is 0.5, not 0.4"),
        (lambda: Net(mean=0.1), "preprocessing is"),
        (nudged, "weights is"),
        (renamed, "words is"),
    ],
)
def test_whatever_changes_the_output_changes_the_key(make, told):
    first, other = fingerprint(Net()), fingerprint(make())
    assert other.key != first.key
    assert first.difference(other).startswith(told)
    assert ";" not in first.difference(other)


def test_settings_of_a_part_by_transformers_count():
    def with_part(activation):
        net = Net()
        shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        net.part = CLIPVisionModel(CLIPVisionConfig(**shape, image_size=8, patch_size=8, hidden_act=activation))
        return fingerprint(net)

    assert with_part("gelu").key == with_part("gelu").key
    assert "part.config" in with_part("gelu").difference(with_part("quick_gelu"))
