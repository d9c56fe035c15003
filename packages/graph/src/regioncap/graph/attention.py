"""Graph attention over the regions of each image (eqs. 7-9)."""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from regioncap.graph.padding import clear
from regioncap.graph.relations import Relations

Geometry = Literal["none", "bias", "message"]
Residual = Literal["none", "add"]
Norm = Literal["none", "layer"]


class Attended(NamedTuple):
    """What one layer returns. B images, N regions, D channels."""

    features: Float[Tensor, "B N D"]
    shares: Tensor
    """How much region i listens to region j, before dropout, as the layer's relations order it: they give the
    matrices. A region's shares sum to 1; one without an edge has none."""


class GraphAttention(nn.Module):
    """Let every region listen to its graph neighbours (eqs. 7-9).

        a_ij = softmax_{j in N(i)} ( LeakyReLU(a.[W v_i ; W v_j]) + log e_ij + b(phi_ij) )
        v'_i = Norm( v_i + ELU( sum_j a_ij (W v_j + U phi_ij) ) )

    per head on D/H channels each, the heads side by side. Departs from the paper, each by an option whose `none` is the
    equation to the letter: relations with a prior add log e_ij, so that a_ij is proportional to e_ij exp(LeakyReLU(.));
    `geometry="bias"` adds b, a small perceptron of the pair geometry phi_ij, one value per head; `geometry="message"`
    also sends U phi_ij, so that where j lies arrives together with what it is; `residual="add"` and `norm="layer"`.

    The graph, log e_ij or zero, and phi_ij come with the relations (see `relate`), in dense or in listed form.
    Padded regions are never neighbours and come out as zero. Softmax and logarithm are in float32 under autocast.
    B images, N regions, D channels, H heads, F pair channels.
    Raises ValueError if `heads` does not divide `dim`, or an option is unknown.
    """

    def __init__(
        self,
        dim: int,
        pair_dim: int,
        *,
        heads: int = 1,
        geometry: Geometry = "none",
        geometry_hidden: int = 16,
        residual: Residual = "none",
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_layer(
            heads=heads,
            geometry=geometry,
            geometry_hidden=geometry_hidden,
            residual=residual,
            norm=norm,
            dropout=dropout,
        )
        if dim % heads:
            raise ValueError(f"graph.heads must divide the region width {dim}, got {heads}")
        self.heads, self.residual, self.dropout = heads, residual, dropout
        self.values = nn.Linear(dim, dim, bias=False)
        self.listener = nn.Parameter(torch.empty(heads, dim // heads))
        self.speaker = nn.Parameter(torch.empty(heads, dim // heads))
        for parameter in (self.values.weight, self.listener, self.speaker):
            nn.init.xavier_uniform_(parameter)
        self.bias = None if geometry == "none" else _GeometryBias(pair_dim, geometry_hidden, heads)
        self.message = _GeometryMessage(pair_dim, heads, dim // heads) if geometry == "message" else None
        self.norm = nn.LayerNorm(dim) if norm == "layer" else nn.Identity()

    def forward(self, features: Float[Tensor, "B N D"], relations: Relations) -> Attended:
        """Update the regions once."""
        bias = None if self.bias is None else self.bias(relations.geometry)
        dtype = features.dtype
        if torch.is_autocast_enabled(features.device.type):
            dtype = torch.get_autocast_dtype(features.device.type)
        update, shares, passed = relations.attend(
            features.to(dtype),
            self.values.weight.to(dtype),
            self.listener,
            self.speaker,
            bias=bias,
            dropout=self.dropout if self.training else 0.0,
            activate=self.message is None,
        )
        if self.message is not None:
            update = functional.elu(update + self.message(relations.hear_geometry(passed)))
        updated = self.norm(features + update if self.residual == "add" else update)
        return Attended(features=clear(updated, relations.padding), shares=shares)


def check_layer(*, heads: int, geometry: str, geometry_hidden: int, residual: str, norm: str, dropout: float) -> None:
    """Raise ValueError for settings that no layer can have; for configs that fail before any layer is built."""
    options = (
        ("geometry", geometry, Geometry),
        ("residual", residual, Residual),
        ("norm", norm, Norm),
    )
    for name, got, wanted in options:
        if got not in get_args(wanted):
            raise ValueError(f"graph.{name} must be one of {', '.join(get_args(wanted))}, got {got!r}")
    if heads < 1 or geometry_hidden < 1:
        raise ValueError(f"graph.heads and graph.geometry_hidden must be at least 1, got {heads} and {geometry_hidden}")
    if not 0 <= dropout < 1:
        raise ValueError(f"graph.dropout must lie in [0, 1), got {dropout}")


class _GeometryBias(nn.Module):
    """One additive logit per head from the geometry of a pair."""

    def __init__(self, pair_dim: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(pair_dim, hidden), nn.ReLU(), nn.Linear(hidden, heads, bias=False))

    def forward(self, geometry: Float[Tensor, "*P F"]) -> Float[Tensor, "*P H"]:
        bias: Tensor = self.layers(geometry)
        return bias.to(torch.promote_types(bias.dtype, torch.float32))


class _GeometryMessage(nn.Module):
    """sum_j a_ij U phi_ij as U (sum_j a_ij phi_ij): the wide map acts on regions, not on pairs."""

    def __init__(self, pair_dim: int, heads: int, width: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.empty(heads, pair_dim, width))
        bound = pair_dim**-0.5  # that of nn.Linear on pair_dim inputs
        nn.init.uniform_(self.map, -bound, bound)

    def forward(self, heard: Float[Tensor, "B N H F"]) -> Float[Tensor, "B N D"]:
        return torch.einsum("bnhf,hfc->bnhc", heard, self.map).flatten(2)
