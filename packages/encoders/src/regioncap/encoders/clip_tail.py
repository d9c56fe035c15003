"""The last layers of a CLIP, as a head that trains over stored activations (phase 2 of the paper)."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from regioncap.encoders.vit import Readout, VitReadout

_CHUNK = 64
"""Images at once where no gradient is wanted: the whole of a training set may be asked for, at 50 tokens an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipTailConfig:
    """Shape of a `ClipTail`, as the checkpoint it was taken from says."""

    layers: int
    """Transformer layers in it; with 0, the encoder has computed the image vector and only the projection is here."""
    tokens: int
    """Tokens of an image, the class token included."""
    width: int
    """Channels of a token."""
    heads: int
    """Attention heads; they divide `width`."""
    hidden: int
    """Channels inside the MLP."""
    activation: str
    """Of the MLP, by transformers' name."""
    epsilon: float
    """Of the layer norms."""
    readout: Readout
    """How the image vector is read from the tokens."""
    projected: bool
    """Whether linear projections lead into the joint space (CLIP); else the vectors lie there already (SigLIP)."""

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name == "layers" else 1
            if field.type is int and getattr(self, field.name) < least:
                raise ValueError(f"clip_tail.{field.name} must be at least {least}, got {getattr(self, field.name)}")
        if self.width % self.heads:
            raise ValueError(f"clip_tail.heads must divide clip_tail.width {self.width}, got {self.heads}")
        if self.activation not in ACT2FN:
            raise ValueError(f"clip_tail.activation must be one of transformers', got {self.activation!r}")
        if self.readout not in ("class", "attention"):
            raise ValueError(f"clip_tail.readout must be class or attention, got {self.readout!r}")

    def build(self, pooled_dim: int, text_dim: int, dim: int) -> "ClipTail":
        """Return a tail with fresh weights, as `ClipHeadConfig.build` does. Raises ValueError for widths that do not
        fit the shape."""
        return ClipTail(self, pooled_dim, text_dim, dim)


class ClipTail(nn.Module):
    """A CLIP from its n-th last layer on, and its text projection: g = norm(W read(layers(x))) (eq. 1).

    It stands where a `ClipHead` can stand. `pooled` are the hidden states before those layers, flattened: the result
    is that of the whole CLIP, and phase 2 trains the last layers without running those below. It never saw a training
    image of a study, so there is nothing to cross-fit. B images, G = tokens * width, L texts, T channels, D joint
    width.
    """

    def __init__(self, config: ClipTailConfig, pooled_dim: int, text_dim: int, dim: int) -> None:
        super().__init__()
        wanted = config.tokens * config.width if config.layers else config.width
        if pooled_dim != wanted:
            raise ValueError(f"a CLIP tail of this shape takes {wanted} activations an image, got {pooled_dim}")
        if not config.projected and not config.width == text_dim == dim:
            raise ValueError(f"this CLIP has no projections: dim must be {config.width}, got {dim} (text {text_dim})")
        self.config = config
        self.pooled_dim, self.text_dim, self.dim = pooled_dim, text_dim, dim
        self.readout = None
        if config.layers:
            self.readout = VitReadout(
                layers=config.layers,
                width=config.width,
                heads=config.heads,
                hidden=config.hidden,
                activation=config.activation,
                epsilon=config.epsilon,
                readout=config.readout,
            )
        self.image_projection = nn.Linear(config.width, dim, bias=False) if config.projected else nn.Identity()
        self.text_projection = nn.Linear(text_dim, dim, bias=False) if config.projected else nn.Identity()
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def embed_image(self, pooled: Float[Tensor, "B G"]) -> Float[Tensor, "B D"]:
        """Return the global image vector g, L2-normalised (eq. 1)."""
        if torch.is_grad_enabled() or len(pooled) <= _CHUNK:
            return self._embed_image(pooled)
        return torch.cat([self._embed_image(chunk) for chunk in pooled.split(_CHUNK)])

    def embed_text(self, text: Float[Tensor, "L T"]) -> Float[Tensor, "L D"]:
        """Return text vectors of the CLIP's text tower (`ClipText`) in the space of g, L2-normalised."""
        return F.normalize(self.text_projection(text), dim=-1)

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature, kept at 100 or less as in CLIP so that no logit overflows."""
        return self.log_scale.exp().clamp(max=100.0)

    def last_layers(self, n: int) -> list[nn.Parameter]:
        """Return the parameters of the last `n` transformer layers and of all behind them, for phase 2; none for 0.

        Raises ValueError for more layers than it holds: those below were computed once and cannot train.
        """
        if n < 0:
            raise ValueError(f"the number of layers to unfreeze must not be negative, got {n}")
        if n > self.config.layers:
            raise ValueError(
                f"{n} CLIP layers cannot be unfrozen, stored activations leave {self.config.layers} to train: give the "
                f"CLIP encoder trainable_layers {n}, or the phase clip_layers {self.config.layers} at most"
            )
        if n == 0 or self.readout is None:
            return []
        behind: list[nn.Module] = [self.readout.norm, self.image_projection]
        if self.readout.pool is not None:
            behind.append(self.readout.pool)
        kept = [*self.readout.blocks[self.config.layers - n :], *behind]
        return [parameter for layer in kept for parameter in layer.parameters()]

    def _embed_image(self, pooled: Float[Tensor, "b G"]) -> Float[Tensor, "b D"]:
        if self.readout is not None:
            pooled = self.readout(pooled.unflatten(1, (self.config.tokens, self.config.width)))
        return F.normalize(self.image_projection(pooled), dim=-1)
