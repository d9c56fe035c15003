"""What a decoder heeded when it said each word of a caption."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from regioncap.decoder.attention import as_bias, causal, project
from regioncap.decoder.gpt2 import Gpt2Decoder
from regioncap.decoder.prefix import Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Of every token of a caption but the first, when it was predicted.

    L layers, B images, S = T - 1 tokens, P prefix slots. Zero where the caption has ended.
    """

    attention: Float[Tensor, "L B S P"]
    """Share of a layer's attention, mean over its heads, on each slot; the rest is on bos and the words before."""
    openness: Float[Tensor, "B S"]
    """How far the gate of the word bias was open, in [0, 1]."""
    bias: Float[Tensor, "B S"]
    """What the word bias added to the token's logit: nothing where it had been said before."""

    @property
    def shares(self) -> Float[Tensor, "B S P"]:
        """Attention on each slot, mean over heads and layers."""
        return self.attention.mean(0)

    def by_kind(self, slots: Sequence[tuple[str, int]]) -> dict[str, Float[Tensor, "B S"]]:
        """Attention on all slots of each kind, mean over heads and layers; `slots` are the prefix's own."""
        counts = [count for _, count in slots]
        if sum(counts) != self.attention.shape[-1]:
            raise ValueError(
                f"the slots are {sum(counts)} in all, the attention is on {self.attention.shape[-1]}: give the slots "
                "of the prefix that was explained"
            )
        parts = self.shares.split(counts, -1)
        return {kind: part.sum(-1) for (kind, _), part in zip(slots, parts, strict=True)}


@torch.no_grad()
def explain(decoder: Gpt2Decoder, prefix: Prefix, tokens: Int[Tensor, "B T"], mask: Bool[Tensor, "B T"]) -> Explanation:
    """Read captions once more and note what is heeded.

    `tokens` are whole captions as `token_losses` takes them, with bos, a prompt if there was one, and eos; the prompt's
    words are explained like any. Attention is that of transformers' eager form. Adapters count; dropout does not.
    """
    decoder = decoder.merged()
    transformer, slots = decoder.model.transformer, prefix.valid.shape[1]
    words = transformer.wte(tokens)
    words = words if prefix.added is None else words + prefix.added[:, None]
    real = torch.cat([prefix.valid, mask], 1)
    x = torch.cat([prefix.embeddings, words], 1)  # B P+T H
    x = x + transformer.wpe((real.cumsum(1) - 1).clamp(min=0))
    heard = as_bias(causal(real), x.dtype)[:, None]
    told = mask[:, 1:]
    layers = []
    for block in cast(list[GPT2Block], list(transformer.h)):
        q, k, v = project(block, x)
        shares = (q @ k.mT + heard).softmax(-1)  # B heads S S
        layers.append(shares[:, :, slots:-1, :slots].mean(1) * told[..., None])
        x = x + block.attn.c_proj((shares @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp.c_proj(block.mlp.act(block.mlp.c_fc(block.ln_2(x))))
    hidden = transformer.ln_f(x[:, slots:-1])
    known = _known(prefix.bias, tokens) if prefix.bias is not None else torch.zeros_like(hidden[..., 0])
    return Explanation(
        attention=torch.stack(layers),
        openness=decoder.word_bias.openness(hidden) * told,
        bias=decoder.word_bias.strength(hidden) * known * told,
    )


def _known(bias: Float[Tensor, "B V"], tokens: Int[Tensor, "B T"]) -> Float[Tensor, "B T-1"]:
    """The bias of each token but the first, unless it has been said."""
    earlier = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril(-1)
    said = ((tokens[:, :, None] == tokens[:, None]) & earlier).any(-1)
    return (bias.gather(1, tokens) * ~said)[:, 1:]
