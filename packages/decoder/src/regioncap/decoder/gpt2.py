"""GPT-2 that continues a prefix given in embedding space (eq. 15)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from regioncap.decoder.attention import as_bias, attend, compute_dtype, project
from regioncap.decoder.dropout import ByteDropout
from regioncap.decoder.incremental import IncrementalGpt2
from regioncap.decoder.lora import LoraConfig, adapters_of, merged
from regioncap.decoder.packing import pack_captions, round_up
from regioncap.decoder.projections import Precision
from regioncap.decoder.word_bias import Fed, GatedWordBiasConfig, NoWordBiasConfig

_ROWS = 128
"""Hidden states go to the vocabulary in multiples of this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt2DecoderConfig:
    """GPT-2 of any size, from scratch or from stored weights."""

    layers: int = 2
    """Transformer blocks. With `weights`, this and the next three are what the stored model says."""
    heads: int = 4
    """Attention heads; must divide `width`."""
    width: int = 256
    """Channels (H)."""
    positions: int = 128
    """Rows of the position table: the longest prefix plus caption."""
    dropout: float = 0.1
    """On embeddings and residual branches, in steps of 1/256. Attention weights are never dropped."""
    weights: str | None = None
    """Folder of a stored GPT-2 (`save_pretrained`) or its hub name; None starts from random weights."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """Low-rank adapters that train in place of the stored weights."""
    word_bias: NoWordBiasConfig | GatedWordBiasConfig = field(default_factory=NoWordBiasConfig)
    """Whether what is known of an image's words moves the logits."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoder.{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"decoder.width must be a multiple of decoder.heads, got {self.width} and {self.heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"decoder.dropout must be in [0, 1), got {self.dropout}")
        if self.lora.rank and self.weights is None:
            raise ValueError(
                f"decoder.lora.rank is {self.lora.rank}, but adapters to random weights learn nothing: name a stored "
                "GPT-2 with decoder.weights, or set decoder.lora.rank to 0"
            )

    def build(self, vocab_size: int, *, bos: int, eos: int, pad: int) -> "Gpt2Decoder":
        """Make the decoder for a vocabulary; `bos`, `eos` and `pad` are ids of its special tokens.

        Raises ValueError if stored weights are missing, are no GPT-2, or were made for another vocabulary.
        """
        for name, token in (("bos", bos), ("eos", eos), ("pad", pad)):
            if not 0 <= token < vocab_size:
                raise ValueError(f"{name} must be an id below the vocabulary size {vocab_size}, got {token}")
        if self.weights is not None:
            model = _load(self.weights, vocab_size)
        else:
            stored = GPT2Config(
                vocab_size=vocab_size,
                n_positions=self.positions,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                embd_pdrop=self.dropout,
                resid_pdrop=self.dropout,
                attn_pdrop=0.0,
                bos_token_id=bos,
                eos_token_id=eos,
                pad_token_id=pad,
            )
            model = GPT2LMHeadModel(stored)
        return Gpt2Decoder(self, model, bos=bos, eos=eos, pad=pad)


class Gpt2Decoder(nn.Module):
    """p(w_t | prefix, w_<t) with GPT-2 (eq. 15): fed [prefix, bos, w1 ... wn] it is to say w1 ... wn, eos.

    The weights live in transformers' own `GPT2LMHeadModel` (`model`), so its folder format and `generate` apply; the
    pass over its blocks is ours, because an image's prefix is then computed once for all its captions and beams, and
    in the last block no further than to its keys and values. Attention is causal over the prefix too.
    Prefixes may have holes: a slot counts as a position only where it is valid, so padding anywhere changes nothing.
    A prefix of length 0 makes it a plain language model. What is `added` joins the embedding of every token of its
    image's captions, bos included, and of no prefix slot. A `bias` is what is known of an image's words: `word_bias`
    says what that does to their logits (`GatedWordBias`), and nothing is known where it is None.
    B images, P prefix slots, H width, C captions per image, T tokens of a caption (bos and eos included), V words.
    """

    def __init__(self, config: Gpt2DecoderConfig, model: GPT2LMHeadModel, *, bos: int, eos: int, pad: int) -> None:
        super().__init__()
        self.bos, self.eos, self.pad = bos, eos, pad
        model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = bos, eos, pad
        self.model = model
        if model.config.activation_function == "gelu_new":
            for block in self._blocks:
                block.mlp.act = nn.GELU(approximate="tanh")  # the same function in one pass instead of eight
        config.lora.adapt(model)
        self.word_bias = config.word_bias.build(self.width)
        self.dropout = ByteDropout(config.dropout)

    @property
    def width(self) -> int:
        """Channels of a prefix embedding (H)."""
        return int(self.model.config.n_embd)

    @property
    def vocab_size(self) -> int:
        """Words it can say (V), special tokens included."""
        return int(self.model.config.vocab_size)

    @property
    def positions(self) -> int:
        """The longest prefix plus caption it can hold."""
        return int(self.model.config.n_positions)

    def save(self, folder: Path) -> None:
        """Write transformers' own format, adapters merged; `Gpt2DecoderConfig(weights=str(folder))` reads it back."""
        merged(self.model).save_pretrained(folder)

    def load_language(self, weights: Mapping[str, Tensor]) -> None:
        """Take the state of a decoder that learned from text alone: `word_bias`, which it lacks, stays as it is."""
        self.load_state_dict({**self.word_bias.state_dict(prefix="word_bias."), **weights})

    def trained(self) -> list[nn.Parameter]:
        """The parameters of GPT-2 that training may move: all, or the adapters alone where there are any.

        Those of `word_bias` are no part of it: they train with the image's side, though GPT-2 is frozen.
        """
        return adapters_of(self.model) or list(self.model.parameters())

    def merged(self) -> "Gpt2Decoder":
        """A decoder without adapters that says the same; itself if it has none. `search` works with it."""
        return merged(self)

    def forward(
        self,
        prefix: Float[Tensor, "B P H"],
        valid: Bool[Tensor, "B P"],
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        added: Float[Tensor, "B H"] | None = None,
        bias: Float[Tensor, "B V"] | None = None,
    ) -> Float[Tensor, "B C T V"]:
        """Logits of the word after each fed token; zero where `mask` is False."""
        hidden, order, real = self._hidden(prefix, valid, tokens, mask, added)
        logits: Tensor = self.model.lm_head(hidden)  # n V, real tokens only
        if bias is not None:
            logits = self.word_bias.told(logits, hidden, bias, Fed.of(tokens, mask, order, real))
        return _unpacked(logits, order, real, tokens.shape[1:])

    def token_losses(
        self,
        prefix: Float[Tensor, "B P H"],
        valid: Bool[Tensor, "B P"],
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        added: Float[Tensor, "B H"] | None = None,
        bias: Float[Tensor, "B V"] | None = None,
        temperature: float = 1.0,
    ) -> Float[Tensor, "B C T-1"]:
        """-log p of every token but the first given what stands before it; zero where `mask` is False.

        `tokens` are whole captions, bos and eos included. p is the softmax of logits / `temperature`. Vocabulary logits
        are computed for real tokens only.
        """
        losses, order, real = self._losses(prefix, valid, tokens, mask, added, bias, temperature)
        return _unpacked(losses, order, real, tokens[..., 1:].shape[1:])

    def loss(
        self,
        prefix: Float[Tensor, "B P H"],
        valid: Bool[Tensor, "B P"],
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        added: Float[Tensor, "B H"] | None = None,
        bias: Float[Tensor, "B V"] | None = None,
    ) -> Float[Tensor, ""]:
        """Cross-entropy of eq. 16: the mean of `token_losses` over the real tokens of the batch."""
        return self._losses(prefix, valid, tokens, mask, added, bias)[0].mean()

    def incremental(self, precision: Precision = "float32") -> IncrementalGpt2:
        """A copy of the present weights, adapters merged, laid out for a search; costs a fraction of a caption's time.

        Raises ValueError in training mode, where a search would not be what the decoder learns to say.
        """
        if self.training:
            raise ValueError("the decoder is in training mode, where its dropout is on: call eval() before a search")
        special = {"bos": self.bos, "eos": self.eos, "pad": self.pad}
        return IncrementalGpt2(merged(self.model), self.word_bias, precision, **special)

    def _losses(
        self,
        prefix: Tensor,
        valid: Tensor,
        tokens: Tensor,
        mask: Tensor,
        added: Tensor | None,
        bias: Tensor | None,
        temperature: float = 1.0,
    ) -> tuple[Float[Tensor, " n"], Tensor, Tensor]:
        if tokens.shape[-1] < 2:
            raise ValueError(f"captions need bos and at least one more token, got {tokens.shape[-1]} tokens")
        fed, mask = tokens[..., :-1], mask[..., 1:]
        hidden, order, real = self._hidden(prefix, valid, fed, mask, added)
        n = len(hidden)
        padded = F.pad(hidden, (0, 0, 0, round_up(n, _ROWS) - n))  # few shapes, see packing
        logits = self.model.lm_head(padded)
        if bias is not None:
            logits = self.word_bias.told(logits, hidden, bias, Fed.of(fed, mask, order, real))
        logits = logits[:n].float()  # the sum over the vocabulary needs more than bf16
        if temperature != 1:
            logits = logits / temperature
        targets = tokens[..., 1:].flatten(1).gather(1, order)[real]
        return F.cross_entropy(logits, targets, reduction="none"), order, real

    def _hidden(
        self, prefix: Tensor, valid: Tensor, tokens: Tensor, mask: Tensor, added: Tensor | None
    ) -> tuple[Float[Tensor, "n H"], Int[Tensor, "B L"], Bool[Tensor, "B L"]]:
        """Final hidden states of the real tokens, the place each packed slot has in C*T, and which slots are real."""
        self._check_length(prefix.shape[1] + tokens.shape[2])
        width = prefix.shape[1]
        packed = pack_captions(valid, tokens, mask)
        x = torch.cat([prefix, self._embed(packed.tokens, added)], dim=1)  # B P+L H
        x = self.dropout(x + self.model.transformer.wpe(packed.positions))
        bias = as_bias(packed.allowed, compute_dtype(x))[:, None]  # B 1 P+L P+L
        *blocks, last = self._blocks
        for block in blocks:
            q, k, v = project(block, x)
            x = self._finish(block, x, attend(q, k, v, bias))
        q, k, v = project(last, x)
        heard = attend(q[:, :, width:], k, v, bias[:, :, width:])
        x = self._finish(last, x[:, width:], heard)  # nothing reads the prefix after its last keys and values
        return self.model.transformer.ln_f(x[packed.real]), packed.order, packed.real

    def _embed(self, tokens: Int[Tensor, "A *L"], added: Float[Tensor, "A H"] | None) -> Float[Tensor, "A *L H"]:
        """Word embeddings, joined by what is added to each of them."""
        words: Tensor = self.model.transformer.wte(tokens)
        return words if added is None else words + added.view(len(added), *[1] * (words.ndim - 2), -1)

    def _finish(self, block: GPT2Block, x: Float[Tensor, "A S H"], heard: Float[Tensor, "A S H"]) -> Tensor:
        """The rest of a block, after its attention."""
        mlp = block.mlp
        x = x + cast(Tensor, self.dropout(block.attn.c_proj(heard)))
        return x + cast(Tensor, self.dropout(mlp.c_proj(mlp.act(mlp.c_fc(block.ln_2(x))))))

    @property
    def _blocks(self) -> list[GPT2Block]:
        return cast(list[GPT2Block], list(self.model.transformer.h))

    def _check_length(self, length: int) -> None:
        if length > self.positions:
            raise ValueError(
                f"prefix and caption take {length} positions, the decoder has {self.positions}: "
                "shorten them or raise decoder.positions"
            )


def _unpacked(
    packed: Float[Tensor, "n *V"], order: Int[Tensor, "B L"], real: Bool[Tensor, "B L"], shape: torch.Size
) -> Float[Tensor, "B C T *V"]:
    """Values of packed tokens at the tokens' places among C*T; zero elsewhere."""
    out = packed.new_zeros(len(order), shape.numel(), *packed.shape[1:])
    out[real.nonzero()[:, 0], order[real]] = packed
    unpacked: Tensor = out.unflatten(1, tuple(shape))
    return unpacked


def _load(weights: str, vocab_size: int) -> GPT2LMHeadModel:
    try:
        stored = GPT2Config.from_pretrained(weights)
        if stored.model_type != "gpt2" or stored.add_cross_attention:
            raise ValueError(f"decoder.weights: {weights} holds a {stored.model_type} model, a plain GPT-2 is needed")
        if stored.vocab_size != vocab_size:
            raise ValueError(
                f"decoder.weights: {weights} knows {stored.vocab_size} tokens, the tokenizer {vocab_size}: "
                "use the tokenizer it was trained with"
            )
        return GPT2LMHeadModel.from_pretrained(weights, dtype=torch.float32)
    except OSError as error:
        raise ValueError(
            f"decoder.weights: found no GPT-2 at {weights}: give a folder written by save_pretrained or a hub name "
            "that is cached or reachable"
        ) from error
