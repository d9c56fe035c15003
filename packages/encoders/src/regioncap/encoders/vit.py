"""The transformer layers that CLIP, SigLIP and their kin share, and the two ways to read an image vector from them."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import SiglipVisionConfig
from transformers.activations import ACT2FN
from transformers.models.siglip.modeling_siglip import SiglipMultiheadAttentionPoolingHead

Readout = Literal["class", "attention"]
"""`class`: the first token, normalised (CLIP). `attention`: a learned query listens to all tokens (SigLIP)."""


class VitBlock(nn.Module):
    """A pre-norm transformer layer (Dosovitskiy et al. 2021, eqs. 2 and 3).

        y = x + Attention(LN(x)),   z = y + MLP(LN(y))
    Queries, keys and values come from one matrix. B images, T tokens, W channels.
    """

    def __init__(self, *, width: int, heads: int, hidden: int, activation: str, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=epsilon)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=epsilon)
        self.widen = nn.Linear(width, hidden)
        self.activation = ACT2FN[activation]
        self.narrow = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "B T W"], queries: int | None = None) -> Float[Tensor, "B Q W"]:
        """Return the first `queries` tokens of the layer's output; None returns all.

        What is not asked for is not computed: a readout of the class token alone spares nearly all of a last layer.
        """
        normalised = self.attention_norm(x)
        q, k, v = self.qkv(normalised).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 times B h T d
        heard = F.scaled_dot_product_attention(q[:, :, :queries], k, v).transpose(1, 2).flatten(2)  # B Q W
        x = x[:, :queries] + self.out(heard)
        y: Tensor = x + self.narrow(self.activation(self.widen(self.mlp_norm(x))))
        return y

    def copy_from(self, layer: Any) -> None:
        """Take over the weights of a layer of transformers' CLIP or SigLIP."""
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            self.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
        for ours, theirs in (
            (self.attention_norm, layer.layer_norm1),
            (self.out, attention.out_proj),
            (self.mlp_norm, layer.layer_norm2),
            (self.widen, layer.mlp.fc1),
            (self.narrow, layer.mlp.fc2),
        ):
            ours.load_state_dict(theirs.state_dict())


class VitReadout(nn.Module):
    """Layers and what reads the image vector from their output. B images, T tokens, W channels."""

    def __init__(
        self, *, layers: int, width: int, heads: int, hidden: int, activation: str, epsilon: float, readout: Readout
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            VitBlock(width=width, heads=heads, hidden=hidden, activation=activation, epsilon=epsilon)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.pool = None
        if readout == "attention":
            shape = SiglipVisionConfig(
                hidden_size=width,
                num_attention_heads=heads,
                intermediate_size=hidden,
                hidden_act=activation,
                layer_norm_eps=epsilon,
            )
            self.pool = SiglipMultiheadAttentionPoolingHead(shape)

    def forward(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B W"]:
        """Return the image vector."""
        read = 1 if self.pool is None else None
        for i, block in enumerate(self.blocks):
            x = block(x, read if i == len(self.blocks) - 1 else None)
        vector: Tensor = self.norm(x[:, 0]) if self.pool is None else self.pool(self.norm(x))
        return vector

    def tokens(self, x: Float[Tensor, "B T W"]) -> Float[Tensor, "B T W"]:
        """Return all tokens behind the last layer, as transformers' `last_hidden_state` has them."""
        for block in self.blocks:
            x = block(x)
        return x if self.pool is None else self.norm(x)

    def read(self, tokens: Float[Tensor, "B T W"]) -> Float[Tensor, "B W"]:
        """Return the image vector of what `tokens` gave."""
        vector: Tensor = self.norm(tokens[:, 0]) if self.pool is None else self.pool(tokens)
        return vector
