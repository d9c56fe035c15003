import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regioncap.encoders.detection.minimal_filtering import MinimalConvolution, filtering_of

KNOWN = [(4, 1), (7, 2)]


@pytest.mark.parametrize(("cells", "stride"), KNOWN)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_in_one_dimension_it_is_the_convolution(cells: int, stride: int, seed: int) -> None:
    """The sum over taps, written out."""
    generator = torch.Generator().manual_seed(seed)
    x, w = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (cells, 3))
    filtering = filtering_of(cells, stride)
    assert filtering is not None
    y = filtering.back @ ((filtering.taps @ w) * (filtering.into @ x))
    expected = [
        sum(float(w[k] * x[i + k - 1]) for k in range(3) if 0 <= i + k - 1 < cells) for i in range(0, cells, stride)
    ]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(("cells", "stride", "most"), [(4, 1, 36), (7, 2, 64)])
def test_it_multiplies_less_than_the_144_products_of_the_sum(cells: int, stride: int, most: int) -> None:
    convolution = torch.nn.Conv2d(2, 2, 3, stride=stride, padding=1)
    filtering = filtering_of(cells, stride)
    assert filtering is not None
    assert len(MinimalConvolution(convolution, filtering).filters) == most


@pytest.mark.parametrize(("cells", "stride"), KNOWN)
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution_to_rounding(cells: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(96, 40, 3, stride=stride, padding=1, bias=bias)
    filtering = filtering_of(cells, stride)
    assert filtering is not None
    x = torch.randn(5, 96, cells, cells).relu()
    y = MinimalConvolution(convolution, filtering)(x.permute(2, 3, 0, 1).flatten(0, 1))
    exact = F.conv2d(x.double(), convolution.weight.double(), None, stride, 1)
    if convolution.bias is not None:
        exact += convolution.bias.double()[:, None, None]
    exact = exact.permute(2, 3, 0, 1).flatten(0, 1)
    assert y.shape == exact.shape
    assert (y - exact).norm() / exact.norm() < 5e-6


def test_other_sizes_have_no_algorithm() -> None:
    assert [filtering_of(*case) for case in ((7, 1), (4, 2), (5, 1))] == [None] * 3
