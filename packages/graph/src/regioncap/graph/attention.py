"""Graph attention over the regions of each image (eqs. 7-9)."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

EdgeWeight = Literal["prior", "none"]
Geometry = Literal["none", "bias", "message"]
Residual = Literal["none", "add"]
Norm = Literal["none", "layer"]

_FORBIDDEN = -1e30  # finite: a row without any edge then is uniform before it is cleared, never NaN
_FAINTEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """What one layer returns. B images, N regions, D channels, H heads."""

    features: Float[Tensor, "B N D"]
    attention: Float[Tensor, "B H N N"]
    """How much region i listens to region j, before dropout. Rows sum to 1; rows without an edge are 0."""


class GraphAttention(nn.Module):
    """Let every region listen to its graph neighbours (eqs. 7-9).

        a_ij = softmax_{j in N(i)} ( LeakyReLU(a.[W v_i ; W v_j]) + log e_ij + b(phi_ij) )
        v'_i = Norm( v_i + ELU( sum_j a_ij (W v_j + U phi_ij) ) )

    per head on D/H channels each, the heads side by side. Departs from the paper, each by an option whose `none` is the
    equation to the letter: `edge_weight="prior"` adds log e_ij, so that a_ij is proportional to e_ij exp(LeakyReLU(.));
    `geometry="bias"` adds b, a small perceptron of the pair geometry phi_ij, one value per head; `geometry="message"`
    also sends U phi_ij, so that where j lies arrives together with what it is; `residual="add"` and `norm="layer"`.

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
        edge_weight: EdgeWeight = "prior",
        geometry: Geometry = "none",
        geometry_hidden: int = 16,
        residual: Residual = "none",
        norm: Norm = "none",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_layer(
            heads=heads,
            edge_weight=edge_weight,
            geometry=geometry,
            geometry_hidden=geometry_hidden,
            residual=residual,
            norm=norm,
            dropout=dropout,
        )
        if dim % heads:
            raise ValueError(f"graph.heads must divide the region width {dim}, got {heads}")
        self.heads, self.edge_weight, self.residual, self.dropout = heads, edge_weight, residual, dropout
        self.values = nn.Linear(dim, dim, bias=False)
        self.listener = nn.Parameter(torch.empty(heads, dim // heads))
        self.speaker = nn.Parameter(torch.empty(heads, dim // heads))
        for parameter in (self.values.weight, self.listener, self.speaker):
            nn.init.xavier_uniform_(parameter)
        self.bias = None if geometry == "none" else _GeometryBias(pair_dim, geometry_hidden, heads)
        self.message = _GeometryMessage(pair_dim, heads, dim // heads) if geometry == "message" else None
        self.norm = nn.LayerNorm(dim) if norm == "layer" else nn.Identity()

    def forward(
        self,
        features: Float[Tensor, "B N D"],
        weights: Float[Tensor, "B N N"],
        geometry: Float[Tensor, "B N N F"],
        valid: Bool[Tensor, "B N"],
    ) -> Attended:
        """Update the regions once; `weights` are e_ij, positive exactly on the edges."""
        values = self.values(features).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # B H N D/H
        listening = (values * self.listener[:, None]).sum(-1, dtype=torch.float32)  # B H N
        speaking = (values * self.speaker[:, None]).sum(-1, dtype=torch.float32)
        logits = functional.leaky_relu(listening[..., None] + speaking[:, :, None], 0.2)  # B H N N
        if self.bias is not None:
            logits = logits + self.bias(geometry)
        edges = weights > 0
        prior = weights.float().clamp_min(_FAINTEST).log() if self.edge_weight == "prior" else logits.new_zeros(())
        logits = logits + torch.where(edges, prior, _FORBIDDEN)[:, None]
        attention = logits.softmax(-1).masked_fill(~edges[:, None], 0.0)

        passed = functional.dropout(attention, self.dropout, self.training).to(values.dtype)
        heard = passed @ values  # B H N D/H
        if self.message is not None:
            heard = heard + self.message(passed, geometry)
        update = functional.elu(heard.transpose(1, 2).flatten(2))  # B N D
        updated = self.norm(features + update if self.residual == "add" else update)
        return Attended(features=updated.masked_fill(~valid[..., None], 0.0), attention=attention)


def check_layer(
    *, heads: int, edge_weight: str, geometry: str, geometry_hidden: int, residual: str, norm: str, dropout: float
) -> None:
    """Raise ValueError for settings that no layer can have; for configs that fail before any layer is built."""
    options = (
        ("edge_weight", edge_weight, EdgeWeight),
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

    def forward(self, geometry: Float[Tensor, "B N N F"]) -> Float[Tensor, "B H N N"]:
        bias: Tensor = self.layers(geometry)
        return bias.float().permute(0, 3, 1, 2)


class _GeometryMessage(nn.Module):
    """sum_j a_ij U phi_ij as U (sum_j a_ij phi_ij): the wide map acts on N regions, not on N^2 pairs."""

    def __init__(self, pair_dim: int, heads: int, width: int) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.empty(heads, pair_dim, width))
        bound = pair_dim**-0.5  # that of nn.Linear on pair_dim inputs
        nn.init.uniform_(self.map, -bound, bound)

    def forward(
        self, attention: Float[Tensor, "B H N N"], geometry: Float[Tensor, "B N N F"]
    ) -> Float[Tensor, "B H N C"]:
        heard = attention.transpose(1, 2) @ geometry.to(attention.dtype)  # B N H F
        return heard.transpose(1, 2) @ self.map
