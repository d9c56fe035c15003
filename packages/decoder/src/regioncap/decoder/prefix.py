"""From image vectors to embeddings that GPT-2 reads before the caption (eqs. 13-14)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What stands before every caption of an image. B images, P slots, H decoder width."""

    embeddings: Float[Tensor, "B P H"]
    """Zero where not `valid`."""
    valid: Bool[Tensor, "B P"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedPrefixConfig:
    """Everything in one vector, mapped to a few tokens."""

    tokens: int = 1
    """Prefix tokens made from the fused vector (P); 1 is the paper."""
    hidden: int = 512
    """Hidden width of the MLP of eq. 14."""

    def __post_init__(self) -> None:
        _check(self.tokens, self.hidden)

    def build(self, dim: int, width: int, *, guided: bool) -> "FusedPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors will come."""
        return FusedPrefix(self, dim, width, guided=guided)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrefixConfig:
    """The fused tokens, and besides a token for each region and each scene word."""

    tokens: int = 1
    """Prefix tokens made from the fused vector."""
    hidden: int = 512
    """Hidden width of the MLP of eq. 14."""

    def __post_init__(self) -> None:
        _check(self.tokens, self.hidden)

    def build(self, dim: int, width: int, *, guided: bool) -> "TokenPrefix":
        """For joint width `dim` and decoder width `width`; `guided` says whether guidance vectors will come."""
        return TokenPrefix(self, dim, width, guided=guided)


class FusedPrefix(nn.Module):
    """One vector per image, mapped to P tokens (eqs. 13-14).

        C = [f ; W_global ; W_local],   prefix = W_2 GELU(W_1 C)
    Departs from the paper: the nonlinearity is ours (it names none), P may exceed 1, and without guidance C is f alone,
    so that no arm carries weights that only ever see zeros. Regions and words reach it through f, W_global and W_local.
    B images, N regions, M scene words, D joint width, H decoder width.
    """

    def __init__(self, config: FusedPrefixConfig, dim: int, width: int, *, guided: bool) -> None:
        super().__init__()
        self.guided = guided
        self.mlp = _FusedTokens(config.tokens, config.hidden, 3 * dim if guided else dim, width)

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        scene: Float[Tensor, "B D"],
        detail: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        region_valid: Bool[Tensor, "B N"],
        region_detail: Float[Tensor, "B Nd D"],
        scene_tokens: Float[Tensor, "B M D"],
    ) -> Prefix:
        """The prefix; every slot is real."""
        embeddings = self.mlp(torch.cat([fused, scene, detail], -1) if self.guided else fused)
        return Prefix(embeddings=embeddings, valid=torch.ones_like(embeddings[..., 0], dtype=torch.bool))


class TokenPrefix(nn.Module):
    """The tokens of `FusedPrefix`, then one per region, then one per scene word.

        t_i = LayerNorm(W_v V_i + W_d W_local_i) + e_region,    u_j = LayerNorm(W_s s_j) + e_word
    Beyond the paper: a region's detail words stay bound to their region instead of being averaged over the image, and
    GPT-2's attention chooses among regions at every word. e_* are type embeddings. Without guidance W_d, W_s and e_word
    do not exist. N = 0 and M = 0 give no such tokens.
    B images, N regions, M scene words, D joint width, H decoder width, P = tokens + N + M.
    """

    def __init__(self, config: TokenPrefixConfig, dim: int, width: int, *, guided: bool) -> None:
        super().__init__()
        self.guided = guided
        self.mlp = _FusedTokens(config.tokens, config.hidden, 3 * dim if guided else dim, width)
        self.region = nn.Linear(2 * dim if guided else dim, width)  # [W_v W_d] over [V_i ; W_local_i]
        self.region_type = _Typed(width)
        if guided:
            self.word = nn.Linear(dim, width)
            self.word_type = _Typed(width)

    def forward(
        self,
        fused: Float[Tensor, "B D"],
        scene: Float[Tensor, "B D"],
        detail: Float[Tensor, "B D"],
        regions: Float[Tensor, "B N D"],
        region_valid: Bool[Tensor, "B N"],
        region_detail: Float[Tensor, "B Nd D"],
        scene_tokens: Float[Tensor, "B M D"],
    ) -> Prefix:
        """The prefix. Raises ValueError unless guidance says one detail vector per region, or none at all as built."""
        if region_detail.shape[1] != (regions.shape[1] if self.guided else 0):
            raise ValueError(
                f"the prefix was built with guided={self.guided} and got {region_detail.shape[1]} detail vectors for "
                f"{regions.shape[1]} regions: build it for the guidance it is used with"
            )
        tokens = self.mlp(torch.cat([fused, scene, detail], -1) if self.guided else fused)
        told = torch.cat([regions, region_detail], -1) if self.guided else regions
        parts = [tokens, self.region_type(self.region(told)) * region_valid[..., None]]
        valid = [torch.ones_like(tokens[..., 0], dtype=torch.bool), region_valid]
        if self.guided:
            parts.append(self.word_type(self.word(scene_tokens)))
            valid.append(torch.ones_like(scene_tokens[..., 0], dtype=torch.bool))
        return Prefix(embeddings=torch.cat(parts, 1), valid=torch.cat(valid, 1))


class _FusedTokens(nn.Sequential):
    """The MLP of eq. 14, with its output read as `tokens` embeddings."""

    def __init__(self, tokens: int, hidden: int, dim: int, width: int) -> None:
        super().__init__(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, tokens * width), nn.Unflatten(-1, (tokens, width))
        )


class _Typed(nn.Module):
    """Normalise embeddings of one kind and mark the kind."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.kind = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, x: Float[Tensor, "B N H"]) -> Float[Tensor, "B N H"]:
        return F.layer_norm(x, x.shape[-1:], self.scale) + self.kind


def _check(tokens: int, hidden: int) -> None:
    if tokens < 1:
        raise ValueError(f"prefix.tokens must be at least 1, got {tokens}")
    if hidden < 1:
        raise ValueError(f"prefix.hidden must be at least 1, got {hidden}")
