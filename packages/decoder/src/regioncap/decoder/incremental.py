"""GPT-2 one word at a time (eq. 15): a prefix read once per image, then every row a token further."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block
from transformers.pytorch_utils import Conv1D

from regioncap.decoder.attention import as_bias, attend, causal, split_heads
from regioncap.decoder.projections import Activation, Precision, Projection, project_by
from regioncap.decoder.state import DecoderState
from regioncap.decoder.word_bias import Unsaid, WordBias


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One transformer block with its weights laid out."""

    ln_1: nn.LayerNorm
    qkv: Projection
    """The queries come scaled."""
    attended: Projection
    ln_2: nn.LayerNorm
    inner: Projection
    activate: nn.Module
    """What `inner` does not do itself."""
    outer: Projection
    heads: int


class IncrementalGpt2:
    """The weights of a GPT-2 as a search uses them; made by `Gpt2Decoder.incremental`.

    A snapshot: what is trained afterwards does not reach it. Products run in `precision`, all between them in float32.
    Prefixes may have holes: a slot counts as a position only where it is valid. `prefill` and `step` never change a
    tensor that an older state holds. B images, P prefix slots, H width, R rows, V words.
    """

    def __init__(
        self, model: GPT2LMHeadModel, word_bias: WordBias, precision: Precision, *, bos: int, eos: int, pad: int
    ) -> None:
        self.bos, self.eos, self.pad = bos, eos, pad
        self.vocab_size, self.positions = int(model.config.vocab_size), int(model.config.n_positions)
        self.width = int(model.config.n_embd)
        transformer = model.transformer
        fused = model.config.activation_function == "gelu_new"
        self._words, self._places, self._ln = transformer.wte, transformer.wpe, transformer.ln_f
        self._word_bias = word_bias.laid_out()
        self._head = project_by(model.lm_head.weight, None, precision)

        def projection(layer: nn.Module, activation: Activation = "none") -> Projection:
            weights = cast(Conv1D, layer)
            return project_by(weights.weight.t(), weights.bias, precision, activation)

        self._blocks = [
            _Block(
                ln_1=block.ln_1,
                qkv=_with_scaled_queries(block, precision),
                attended=projection(block.attn.c_proj),
                ln_2=block.ln_2,
                inner=projection(block.mlp.c_fc, "gelu" if fused else "none"),
                activate=nn.Identity() if fused else block.mlp.act,
                outer=projection(block.mlp.c_proj),
                heads=block.attn.num_heads,
            )
            for block in cast(list[GPT2Block], list(transformer.h))
        ]

    def prefill(
        self,
        prefix: Float[Tensor, "B P H"],
        valid: Bool[Tensor, "B P"],
        added: Float[Tensor, "B H"] | None = None,
        prompt: Sequence[int] = (),
        bias: Float[Tensor, "B V"] | None = None,
    ) -> tuple[Float[Tensor, "B V"], DecoderState]:
        """Read the prefix, bos and the `prompt` that all captions begin with, once per image.

        `added` joins the embedding of every token and `bias` is known of the words, see `Gpt2Decoder`. Returns logits
        of the first word and the state to step from.
        """
        told = torch.tensor([self.bos, *prompt], device=prefix.device).expand(len(prefix), -1)
        words = self._words(told) if added is None else self._words(told) + added[:, None]
        x = torch.cat([prefix, words], dim=1)  # B S H
        real = F.pad(valid, (0, told.shape[1]), value=True)  # B S
        x = x + self._places((real.cumsum(1) - 1).clamp(min=0))
        mask = as_bias(causal(real), x.dtype)[:, None]
        keys, values = [], []
        for layer, block in enumerate(self._blocks, start=1):
            q, k, v = split_heads(block.qkv(block.ln_1(x)), block.heads)
            keys.append(k)
            values.append(v)
            if layer == len(self._blocks):
                x, q, mask = x[:, -1:], q[:, :, -1:], mask[:, :, -1:]  # only the last slot is answered
            x = _finish(block, x, attend(q, k, v, mask))
        unsaid = None if bias is None else Unsaid(bias=bias.float(), said=told)
        return self._logits(x[:, 0], unsaid), DecoderState.start(tuple(keys), tuple(values), real, added, unsaid)

    def step(self, tokens: Int[Tensor, " R"], state: DecoderState) -> tuple[Float[Tensor, "R V"], DecoderState]:
        """Feed one token per row: logits of the next, and the state that remembers it."""
        x = self._words(tokens) + self._places(state.next_positions())  # R H
        added = state.added_of_rows()
        if added is not None:
            x = x + added
        slots, images = state.heard.shape[1], len(state.length)
        state = state.grown()
        if state.unsaid is not None:
            state = replace(state, unsaid=state.unsaid.after(tokens))
        bias = as_bias(state.heard, x.dtype).view(images, 1, -1, state.heard.shape[1])  # B 1 k S
        for layer, block in enumerate(self._blocks):
            qkv = block.qkv(block.ln_1(x)).view(images, state.rows_per_image, -1)
            q, k, v = split_heads(qkv, block.heads)  # B heads k d
            keys, values = state.cache.write(layer, slots, k, v)
            x = _finish(block, x, attend(q, keys, values, bias).flatten(0, 1))
        return self._logits(x, state.unsaid), state

    def _logits(self, x: Float[Tensor, "R H"], unsaid: Unsaid | None) -> Float[Tensor, "R V"]:
        hidden = self._ln(x)
        logits = self._head(hidden)
        return logits if unsaid is None else self._word_bias(logits, hidden, unsaid)


def _finish(block: _Block, x: Float[Tensor, "*rows H"], heard: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows H"]:
    """The rest of a block, after its attention."""
    x = x + block.attended(heard)
    return x + block.outer(block.activate(block.inner(block.ln_2(x))))


def _with_scaled_queries(block: GPT2Block, precision: Precision) -> Projection:
    """Attention's 1 / sqrt(d) as part of the weights: for GPT-2's d = 64 the same to the last bit."""
    weights = block.attn.c_attn
    scale = torch.ones_like(weights.bias)
    scale[: len(scale) // 3] = block.attn.scaling
    return project_by((weights.weight * scale).t(), weights.bias * scale, precision)
