"""3x3 convolutions over a few cells in half to a quarter of the multiplications, as plain matrix products."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtering:
    """A convolution of s cells with 3 taps to t cells, in one dimension, by K multiplications.

    y = back ((taps w) * (into x)), exact in exact arithmetic.
    """

    taps: Float[Tensor, "K 3"]
    into: Float[Tensor, "K s"]
    back: Float[Tensor, "t K"]


class MinimalConvolution(nn.Module):
    """A frozen 3x3 convolution with padding 1 over maps of one fixed size (Lavin and Gray 2016, arXiv 1509.09308).

        y = b + (back x back) [ ((taps x taps) W) . ((into x into) x) ],   x the Kronecker product
    In between stand K^2 products of P x C by C x O matrices. Equal to the convolution to rounding: its relative error
    in float32 is 2e-6 where the direct sum's is 2e-7. It takes more memory than the weights, 36 (s = 4) or 64 (s = 7)
    numbers for 9. P boxes, C channels to O, s x s cells to t x t.
    """

    def __init__(self, convolution: nn.Conv2d, filtering: Filtering) -> None:
        super().__init__()
        taps, into, back = filtering.taps, filtering.into, filtering.back
        weight = convolution.weight.detach().double()
        filters = torch.einsum("ai,bj,ocij->abco", taps, taps, weight).flatten(0, 1)
        bias = torch.zeros(len(weight)) if convolution.bias is None else convolution.bias.detach().clone()
        for name, values in (
            ("filters", filters),
            ("into", torch.kron(into, into)),
            ("back", torch.kron(back, back)),
            ("shift", bias),
        ):
            self.register_buffer(name, values.float().contiguous(), persistent=False)
        self.filters: Float[Tensor, "KK C O"]
        self.into: Float[Tensor, "KK ss"]
        self.back: Float[Tensor, "tt KK"]
        self.shift: Float[Tensor, " O"]

    def forward(self, x: Float[Tensor, "ss P C"]) -> Float[Tensor, "tt P O"]:
        """Convolve maps whose cells come first, in reading order."""
        _, boxes, channels = x.shape
        spread = (self.into @ x.flatten(1)).view(-1, boxes, channels)
        products = torch.bmm(spread, self.filters)
        y: Tensor = (self.back @ products.flatten(1)).view(len(self.back), boxes, -1)
        return y.add_(self.shift)


def filtering_of(cells: int, stride: int) -> Filtering | None:
    """The algorithm for maps of cells x cells and this stride, padding 1; None where there is none."""
    match cells, stride:
        case 4, 1:
            return _four_cells()
        case 7, 2:
            return _every_other_of_seven()
    return None


def _four_cells() -> Filtering:
    """F(4, 3) of Winograd by Toom and Cook's polynomials: 6 multiplications for 12.

    The points 0, -1, 1, 1/2, -2 lose the fewest digits (Barabasz et al. 2020, arXiv 1803.10986). Of the six inputs the
    outermost are padding, zero.
    """
    four, three, six = (_powers((0.0, -1.0, 1.0, 0.5, -2.0), count) for count in (4, 3, 6))
    return Filtering(taps=three, into=torch.linalg.inv(six).T[:, 1:5], back=four.T)


def _every_other_of_seven() -> Filtering:
    """Stride 2 from 7 cells to 4: even and odd cells apart, 8 multiplications for 12.

        y_i = w_1 x_2i + (w_0 x_2i-1 + w_2 x_2i+1),   i = 0..3
    The even cells meet one tap, 4 products. The odd ones are x_1, x_3, x_5 between zeros: what is in brackets are the
    coefficients of (x_1 + x_3 z + x_5 z^2) (w_2 + w_0 z), by their values at four points.
    """
    three, two, four = (_powers((0.0, 1.0, -1.0), count) for count in (3, 2, 4))
    taps, into, back = (torch.zeros(shape, dtype=torch.float64) for shape in ((8, 3), (8, 7), (4, 8)))
    taps[:4, 2], taps[:4, 0], taps[4:, 1] = two[:, 0], two[:, 1], 1.0
    into[:4, 1::2], into[4:, ::2] = three, torch.eye(4)
    back[:, :4], back[:, 4:] = torch.linalg.inv(four), torch.eye(4)
    return Filtering(taps=taps, into=into, back=back)


def _powers(points: Sequence[float], count: int) -> Float[Tensor, "K n"]:
    """What the values of a polynomial of n coefficients at the points are made of; the last point is infinity."""
    finite = torch.tensor(points, dtype=torch.float64)[:, None] ** torch.arange(count)
    infinite = torch.zeros(1, count, dtype=torch.float64)
    infinite[0, -1] = 1.0
    return torch.cat([finite, infinite])
