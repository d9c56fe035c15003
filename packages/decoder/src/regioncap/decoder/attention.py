"""GPT-2's self-attention over its stored projections: within one row, and of many rows over one shared prefix."""

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
    return split_heads(block.attn.c_attn(block.ln_1(x)), block.attn.num_heads, block.attn.scaling)


def split_heads(
    qkv: Float[Tensor, "A S H3"], heads: int, scaling: float
) -> tuple[Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"], Float[Tensor, "A heads S d"]]:
    """Queries, keys and values out of one product, the queries scaled."""
    q, k, v = qkv.view(*qkv.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)
    return q * scaling, k, v


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


def attend_shared(
    q: Float[Tensor, "R heads 1 d"],
    prefix_k: Float[Tensor, "B heads S d"],
    prefix_v: Float[Tensor, "B heads S d"],
    prefix_bias: Float[Tensor, "B 1 1 S"],
    k: Float[Tensor, "R heads t d"],
    v: Float[Tensor, "R heads t d"],
) -> Float[Tensor, "R 1 H"]:
    """One query per row over its image's prefix and its own t keys, R/B rows per image in image order.

    The prefix is never copied per row: the rows of an image are the queries of one product.
    """
    images, heads, length, channels = prefix_k.shape
    together = q.view(images, -1, heads, channels).transpose(1, 2)  # B heads rows d
    over_prefix = (torch.matmul(together, prefix_k.mT) + prefix_bias).transpose(1, 2).flatten(0, 1)  # R heads S
    over_own = torch.matmul(q, k.mT).squeeze(2)  # R heads t
    weights = torch.cat([over_prefix, over_own], dim=-1).softmax(-1)
    on_prefix = weights[..., :length].view(images, -1, heads, length).transpose(1, 2)  # B heads rows S
    heard = torch.matmul(on_prefix, prefix_v).transpose(1, 2).flatten(0, 1)  # R heads d
    heard = heard + torch.matmul(weights[..., None, length:], v).squeeze(2)
    return heard.flatten(1)[:, None]
