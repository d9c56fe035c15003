import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from regioncap.encoders import fast_linear
from regioncap.encoders.fast_linear import BFloat16Linear, Float32Linear, Int8Linear, PatchConvolution, quicken


def linear(bias=True, inputs=20, outputs=12):
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("bias", [True, False])
def test_int8_is_the_equation(bias):
    layer, x = linear(bias), torch.randn(3, 2, 20)
    fast, y = Int8Linear(layer), torch.empty(3, 2, 12)
    weight = layer.weight.detach()
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(2)).tolist():
        row = x[i, j]
        step = float(row.abs().max()) / 127
        for o in range(12):
            grain = float(weight[o].abs().max()) / 127
            sums = sum(
                round(a / step) * round(w / grain) for a, w in zip(row.tolist(), weight[o].tolist(), strict=True)
            )
            y[i, j, o] = step * grain * sums + (float(layer.bias[o].detach()) if bias else 0.0)
    assert fast(x).dtype == torch.bfloat16
    torch.testing.assert_close(fast(x).float(), y, atol=1e-4, rtol=2**-8)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 40), scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=st.integers(0, 99))
def test_int8_error_is_bounded_for_each_row(rows, scale, seed):
    """Rounding x to s/2 and W to t/2 moves y_o by at most |x|_1 t_o/2 + |W_o|_1 s/2 + n s t_o/4."""
    layer = linear()
    x = scale * torch.randn(rows, 20, generator=torch.Generator().manual_seed(seed))
    weight = layer.weight.detach()
    step, grain = x.abs().amax(1, keepdim=True) / 127, weight.abs().amax(1) / 127
    bound = x.abs().sum(1, keepdim=True) * grain / 2 + weight.abs().sum(1) * step / 2 + 20 * step * grain / 4
    exact = layer(x).detach()
    error = (Int8Linear(layer)(x).float() - exact).abs()
    rounding = 2**-8 * (exact.abs() + bound)  # of the answer, to bfloat16
    assert bool((error <= bound * 1.01 + rounding + 1e-5 * scale + 1e-6).all())


def test_rows_of_zeros_give_the_bias():
    layer = linear()
    torch.testing.assert_close(Int8Linear(layer)(torch.zeros(2, 20)), layer.bias.detach().bfloat16().expand(2, -1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(20,), (7, 20), (3, 2, 20), (0, 20)])
def test_float32_is_the_layer(bias, shape):
    layer, x = linear(bias), torch.randn(shape)
    fast = Float32Linear(layer)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), layer(x), atol=1e-6, rtol=1e-6)
        across = torch.randn(20, 5).T
        torch.testing.assert_close(fast(across), layer(across), atol=1e-6, rtol=1e-6)
    assert [*fast.parameters()] == [*layer.parameters()]
    assert fast.state_dict().keys() == layer.state_dict().keys()


def test_float32_goes_by_onednn_where_no_gradient_is_wanted_alone(monkeypatch):
    layer, x = linear(), torch.randn(4, 20, requires_grad=True)
    fast, asked, product = Float32Linear(layer), [], nn.functional.linear

    def told(*inputs):
        asked.append(inputs)
        return product(*inputs)

    monkeypatch.setattr(fast_linear.F, "linear", told)
    with torch.no_grad():
        fast(x)
    assert len(asked) == (0 if torch.backends.mkldnn.is_available() else 1)
    asked.clear()
    fast(x).sum().backward()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fast(x).dtype == torch.bfloat16
    assert len(asked) == 2
    torch.testing.assert_close(x.grad, layer.weight.detach().sum(0).expand(4, -1))


@pytest.mark.parametrize("bias", [True, False])
def test_bfloat16_rounds_inputs_and_weights(bias):
    layer, x = linear(bias), torch.randn(5, 20)
    rounded = nn.Linear(20, 12, bias=bias)
    rounded.load_state_dict({name: value.bfloat16().float() for name, value in layer.state_dict().items()})
    out = BFloat16Linear(layer)(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), rounded(x.bfloat16().float()).detach(), atol=0, rtol=2**-7)


@pytest.mark.usefixtures("bfloat16")
def test_quicken_replaces_linear_layers_at_every_depth_but_those_torch_reads_past():
    model = nn.ModuleDict({"a": nn.Sequential(linear(), nn.ReLU()), "b": nn.MultiheadAttention(4, 2), "c": linear()})
    model["patches"], model["other"] = nn.Conv2d(3, 4, 8, 8), nn.Conv2d(3, 4, 3)
    quicken(model, "float32")
    assert isinstance(model["c"], Float32Linear)
    assert isinstance(model["patches"], nn.Conv2d)
    quicken(model, "int8")
    assert isinstance(model["a"][0], Int8Linear)
    assert isinstance(model["c"], Int8Linear)
    assert isinstance(model["patches"], PatchConvolution)
    assert isinstance(model["other"], nn.Conv2d)
    assert model["b"](*[torch.randn(3, 1, 4)] * 3)[0].shape == (3, 1, 4)


@pytest.mark.parametrize("bias", [True, False])
def test_patch_convolution_is_the_convolution(bias):
    torch.manual_seed(0)
    convolution, x = nn.Conv2d(3, 5, (4, 6), stride=(4, 6), bias=bias), torch.randn(2, 3, 12, 18)
    fast = PatchConvolution(convolution)(x)
    assert fast.shape == (2, 5, 3, 3)
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, convolution(x).detach(), atol=0.03, rtol=0)
