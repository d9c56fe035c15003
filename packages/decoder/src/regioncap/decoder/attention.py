"""GPT-2's self-attention over its stored projections."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.models.gpt2.modeling_gpt2 import GPT2Block


def causal(real: Bool[Tensor, "B S"]) -> Bool[Tensor, "B S S"]:
    """Which slot (row) may listen to which (column): real ones up to itself, and always itself, so no row is empty."""
    before = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()
    return before & real[:, None] | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)


def as_bias(allowed: Bool[Tensor, "*shape"], dtype: torch.dtype) -> Float[Tensor, "*shape"]:
    """What to add to attention scores: 0 where allowed, else the lowest finite number (-inf would give NaN rows)."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)


def compute_dtype(x: Float[Tensor, "..."]) -> torch.dtype:
    """The type matrix products come out in: autocast's where it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def project(
    block: GPT2Block, x: Float[Tensor, "A S H"]
) -> tuple[Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"]]:
    """Queries (scaled), keys and values of a block for its input."""
    q, k, v = split_heads(block.attn.c_attn(block.ln_1(x)), block.attn.num_heads)
    return q * block.attn.scaling, k, v


def split_heads(
    qkv: Float[Tensor, "A S H3"], heads: int
) -> tuple[Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"]]:
    """Queries, keys and values out of one product."""
    q, k, v = qkv.view(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return q, k, v


def attend(
    q: Float[Tensor, "A heads Q d"],
    k: Float[Tensor, "A heads S d"],
    v: Float[Tensor, "A heads S d"],
    bias: Float[Tensor, "A 1 Q S"],
) -> Float[Tensor, "A Q H"]:
    """softmax(q k + bias) v; the queries come scaled.

    Written out on a CPU, where torch's fused kernel takes twice as long backward.
    """
    if q.device.type == "cpu":
        heard = torch.matmul((torch.matmul(q, k.mT) + bias).softmax(-1), v)
    else:
        heard = F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)
    return heard.transpose(1, 2).flatten(2)
