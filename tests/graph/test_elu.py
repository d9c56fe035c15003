import pytest
import torch
from torch.nn import functional

from regioncap.graph.elu import elu_, elu_backward


@pytest.mark.parametrize("size", [5, 2**16, 2**17 + 3])
def test_elu_is_torchs_to_half_a_spacing_at_one(size: int) -> None:
    x = torch.cat([torch.linspace(-20, 20, size), torch.tensor([-1e-9, 0.0, 1e-9, -1e30, 1e30])])
    found = x.clone()
    assert elu_(found) is found
    torch.testing.assert_close(found, functional.elu(x), atol=6.0e-8, rtol=0)
    assert torch.equal(found[x > 0], x[x > 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradient_is_torchs(dtype: torch.dtype) -> None:
    x = torch.linspace(-4, 4, 101, dtype=dtype, requires_grad=True)
    grad = torch.linspace(1, 2, 101, dtype=dtype)
    functional.elu(x).backward(grad)
    assert x.grad is not None
    atol = 0.004 if dtype == torch.bfloat16 else 1e-6  # from a result that is rounded to eight bits
    torch.testing.assert_close(elu_backward(grad, elu_(x.detach().clone())), x.grad, atol=atol, rtol=0)


def test_nan_stays_nan() -> None:
    assert elu_(torch.tensor([torch.nan])).isnan().all()
