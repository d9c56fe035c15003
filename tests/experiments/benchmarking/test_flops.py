import pytest
import torch
import torch.nn.functional as F
from torch import nn

from regioncap.decoder import Gpt2DecoderConfig
from regioncap.experiments.benchmarking.flops import count_flops


def test_products_and_convolutions_are_counted() -> None:
    x, w = torch.rand(3, 5, 8), torch.rand(16, 8)
    assert count_flops(lambda: F.linear(x, w)) == 2 * 3 * 5 * 8 * 16
    image, kernel = torch.rand(2, 3, 10, 10), torch.rand(4, 3, 3, 3)
    assert count_flops(lambda: F.conv2d(image, kernel)) == 2 * 2 * 4 * 8 * 8 * 3 * 3 * 3


def test_a_backward_pass_is_counted() -> None:
    layer = nn.Linear(8, 16, bias=False)
    x = torch.rand(5, 8, requires_grad=True)
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * 2 * 5 * 8 * 16


@pytest.mark.parametrize("inference", [True, False])
def test_fused_attention_is_counted(inference: bool) -> None:
    q, k, v = torch.rand(2, 4, 7, 16), torch.rand(2, 4, 9, 16), torch.rand(2, 4, 9, 16)
    with torch.inference_mode(inference):
        counted = count_flops(lambda: F.scaled_dot_product_attention(q, k, v))
    assert counted == 2 * (2 * 4 * 7 * 9 * 16) * 2


def test_integer_products_are_counted() -> None:
    a, b = torch.ones(32, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)
    assert count_flops(lambda: torch._int_mm(a, b)) == 2 * 32 * 8 * 16


def test_a_step_of_the_packed_decoder_counts_its_weights() -> None:
    torch.manual_seed(0)
    decoder = Gpt2DecoderConfig(layers=2, heads=4, width=64, positions=16).build(100, bos=1, eos=2, pad=3).eval()
    stepping = decoder.incremental()
    prefix, valid = torch.rand(3, 5, 64), torch.ones(3, 5, dtype=torch.bool)
    counted = count_flops(lambda: stepping.prefill(prefix, valid))
    assert counted is not None
    # 6 tokens (prefix and bos) through the blocks, bos alone through the last one beyond its keys and values.
    block = 12 * 64**2
    last = 6 * 3 * 64**2 + 9 * 64**2
    products = 2 * 3 * (6 * block + last + 64 * 100)
    assert counted == pytest.approx(products, rel=0.06)  # attention itself is on top
    assert counted >= products


def test_a_call_without_gradients_may_be_given_tensors_that_require_them() -> None:
    layer, x = nn.Linear(8, 16), torch.rand(5, 8, requires_grad=True)
    assert count_flops(torch.inference_mode()(lambda: layer(x))) == 2 * 5 * 8 * 16


def test_a_fused_transformer_layer_counts_as_its_parts() -> None:
    layer, x = nn.TransformerEncoderLayer(16, 4, 40, dropout=0.0, batch_first=True), torch.rand(3, 7, 16)
    with torch.inference_mode():
        fused = count_flops(lambda: layer.eval()(x))
    assert fused == count_flops(lambda: layer.train()(x))


def test_no_product_is_none() -> None:
    assert count_flops(lambda: torch.rand(3).relu()) is None
