import pytest
import torch
import torch.nn.functional as F

from regioncap.decoder.projections import Activation, Precision, project_by

CLOSE: dict[Precision, float] = {"float32": 1e-6, "bfloat16": 6e-3, "int8": 2e-2}


def computed(precision: Precision) -> Precision:
    """What stands for it on this processor."""
    emulated = precision == "bfloat16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "float32" if emulated else precision


def reference(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, activation: Activation) -> torch.Tensor:
    y = F.linear(x.double(), weight.double(), bias.double())
    return F.gelu(y, approximate="tanh") if activation == "gelu" else y


@pytest.mark.parametrize("activation", ["none", "gelu"])
@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("rows", [(1,), (5,), (40,), (3, 7)])
def test_is_the_product_to_the_formats_precision(rows: tuple[int, ...], precision: Precision, activation: Activation):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(48, 64), torch.randn(48), torch.randn(*rows, 64)
    y = project_by(weight, bias, precision, activation)(x)
    want = reference(x, weight, bias, activation)
    assert y.shape == (*rows, 48)
    assert y.dtype == torch.float32
    error = float((y - want).norm() / want.norm())
    kind = computed(precision)
    assert error < CLOSE[kind]
    assert kind == "float32" or error > CLOSE[kind] / 20


@pytest.mark.parametrize("precision", CLOSE)
def test_no_bias_is_a_bias_of_zero(precision: Precision):
    torch.manual_seed(0)
    weight, x = torch.randn(48, 64), torch.randn(5, 64)
    without, zero = project_by(weight, None, precision)(x), project_by(weight, torch.zeros(48), precision)(x)
    torch.testing.assert_close(without, zero)


@pytest.mark.parametrize("precision", CLOSE)
def test_a_row_does_not_depend_on_its_batch_mates(precision: Precision):
    torch.manual_seed(0)
    weight, x = torch.randn(96, 64), torch.randn(40, 64)
    x[7] *= 100  # would set the scale of a whole batch
    project = project_by(weight, torch.randn(96), precision)
    torch.testing.assert_close(project(x)[:5], project(x[:5]), rtol=1e-6, atol=1e-5)


def test_zero_rows_and_zero_weights_stay_numbers():
    project = project_by(torch.zeros(8, 16), torch.ones(8), "int8")
    assert torch.equal(project(torch.zeros(2, 16)), torch.ones(2, 8))


def test_int8_elsewhere_is_refused():
    with pytest.raises(ValueError, match="int8 runs on CPUs, the decoder is on meta: take bfloat16"):
        project_by(torch.zeros(8, 16, device="meta"), None, "int8")


def test_on_a_processor_without_bfloat16_it_is_float32(processor):
    torch.manual_seed(0)
    weight, bias, x = torch.randn(48, 64), torch.randn(48), torch.randn(5, 64)
    processor(False)
    assert torch.equal(project_by(weight, bias, "bfloat16")(x), project_by(weight, bias, "float32")(x))
