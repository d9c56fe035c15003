"""What is known of an image's words, put on the vocabulary logits for as long as it is not said."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class NoWordBiasConfig:
    """Logits stay as GPT-2 has them."""

    def build(self, width: int) -> "NoWordBias":
        """For hidden states of `width`."""
        return NoWordBias(width)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedWordBiasConfig:
    """Words that are known of an image become likelier until they are said, as far as a gate is open."""

    openness: float = 0.5
    """How far the gate is open before training, in (0, 1), whatever the decoder is about to say."""
    scale: float = 1.0
    """What a bias of 1 adds to a logit through a gate that is all open, before training."""

    def __post_init__(self) -> None:
        if not 0 < self.openness < 1:
            raise ValueError(
                f"decoder.word_bias.openness must lie in (0, 1), got {self.openness}: a gate that starts all open or "
                "all shut never moves"
            )
        if not self.scale > 0:
            raise ValueError(f"decoder.word_bias.scale must be positive, got {self.scale}")

    def build(self, width: int) -> "GatedWordBias":
        """For hidden states of `width`."""
        return GatedWordBias(self, width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """What has been fed to the decoder when it predicts each of n tokens; T tokens of a caption at most."""

    image: Int[Tensor, " n"]
    """Whose caption it is."""
    tokens: Int[Tensor, "n T"]
    """All tokens of that caption."""
    said: Bool[Tensor, "n T"]
    """Which of them have been said by then; of equal ones the first alone."""

    @classmethod
    def of(
        cls,
        tokens: Int[Tensor, "B C T"],
        mask: Bool[Tensor, "B C T"],
        order: Int[Tensor, "B L"],
        real: Bool[Tensor, "B L"],
    ) -> "Fed":
        """By the places that packed tokens have among the C*T, see `pack_captions`."""
        length = tokens.shape[2]
        earlier = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril(-1)
        again = ((tokens[..., None] == tokens[..., None, :]) & mask[..., None, :] & earlier).any(-1)
        first = mask & ~again  # B C T
        image, place = real.nonzero()[:, 0], order[real]
        caption, at = place // length, place % length
        so_far = torch.arange(length, device=tokens.device) <= at[:, None]
        return cls(image=image, tokens=tokens[image, caption], said=first[image, caption] & so_far)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsaid:
    """The bias of the B images of a search, and what its R rows have said: of each image as many, in image order."""

    bias: Float[Tensor, "B V"]
    said: Int[Tensor, "R t"]

    def after(self, tokens: Int[Tensor, " R"]) -> "Unsaid":
        """A token further."""
        return replace(self, said=torch.cat([self.said, tokens[:, None]], 1))

    def rows(self, chosen: Int[Tensor, " Q"]) -> "Unsaid":
        """Go on from the `chosen` rows."""
        return replace(self, said=self.said.index_select(0, chosen))

    def images(self, chosen: Int[Tensor, " A"]) -> "Unsaid":
        """Keep the bias of the `chosen` images; their rows are the caller's to choose with `rows`."""
        return replace(self, bias=self.bias.index_select(0, chosen))


@runtime_checkable
class WordBias(Protocol):
    """What comes between a decoder's logits and its words.

    N rows of logits of which the first n have hidden states.
    """

    def openness(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """How much of the bias is let through, in [0, 1]."""
        ...

    def strength(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """What a bias of 1 adds to a logit."""
        ...

    def told(
        self, logits: Float[Tensor, "N V"], hidden: Float[Tensor, "n H"], bias: Float[Tensor, "B V"], fed: Fed
    ) -> Float[Tensor, "N V"]:
        """Logits of whole captions with the bias, in the caller's tensor where possible: use what is returned."""
        ...

    def laid_out(self) -> "StepBias":
        """The same for a search: a snapshot, without gradients."""
        ...


@runtime_checkable
class StepBias(Protocol):
    """What `WordBias.told` is to whole captions, for the next token of each of R rows of a search."""

    def __call__(
        self, logits: Float[Tensor, "R V"], hidden: Float[Tensor, "R H"], unsaid: Unsaid
    ) -> Float[Tensor, "R V"]:
        """The logits with the bias, in the caller's tensor."""
        ...


class NoWordBias(nn.Module):
    """The null stage: a bias is not heeded."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def openness(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """Shut."""
        return torch.zeros_like(hidden[..., 0], dtype=torch.float32)

    def strength(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """Nothing."""
        return self.openness(hidden)

    def told(
        self, logits: Float[Tensor, "N V"], hidden: Float[Tensor, "n H"], bias: Float[Tensor, "B V"], fed: Fed
    ) -> Float[Tensor, "N V"]:
        """The logits."""
        return logits

    def laid_out(self) -> StepBias:
        """What leaves logits alone."""
        return lambda logits, hidden, unsaid: logits


class GatedWordBias(nn.Module):
    """Raise the words that are known of an image and not yet said (sec. 3.4.1, "continuously and dynamically adjusts").

        logits_t = W h_t + s sigmoid(w.h_t / sqrt(H) + b) * (bias_v if v is not among the tokens fed so far, else 0)
    h_t is what the output layer W reads. The paper says neither how words act on what is generated nor what is
    adjusted: here a learned gate decides at every step how much an image's words count, and each word counts until it
    is said. bos and prompt are among the tokens fed. w starts at zero and s, b as configured, so that before training
    every step adds `openness * scale` of the bias, and w, s, b and the bias have gradients at once. 1 / sqrt(H) keeps
    a step of Adam from throwing the gate: h has H entries of size 1. Nothing is drawn at random, so that the rest of a
    captioner starts from the same numbers with and without it. The bias must be finite; 0 says nothing of a word.
    """

    def __init__(self, config: GatedWordBiasConfig, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(width))
        self.gate_bias = nn.Parameter(torch.tensor(math.log(config.openness / (1 - config.openness))))
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))

    def openness(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """The sigmoid, in float32."""
        # A sum, not a product of matrices, which autocast would round.
        turned = (hidden.float() * (self.gate / math.sqrt(len(self.gate)))).sum(-1)
        return torch.sigmoid(turned + self.gate_bias)

    def strength(self, hidden: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows"]:
        """s times the sigmoid."""
        return self.log_scale.exp() * self.openness(hidden)

    def told(
        self, logits: Float[Tensor, "N V"], hidden: Float[Tensor, "n H"], bias: Float[Tensor, "B V"], fed: Fed
    ) -> Float[Tensor, "N V"]:
        """Logits in float32. Logits behind the n hidden states stay as they are.

        One product of N x B and B x V, for which autograd keeps those two and nothing as large as the logits; then what
        was said is taken off again, token by token.
        """
        bias, strength = bias.float(), self.strength(hidden)
        rows = torch.arange(len(hidden), device=hidden.device)
        of_image = strength.new_zeros(len(logits), len(bias)).index_put((rows, fed.image), strength)  # N B
        logits = logits.float().addmm_(of_image, bias)
        spent = strength[:, None] * bias[fed.image[:, None], fed.tokens] * fed.said  # n T
        return logits.scatter_add_(1, fed.tokens, -spent)

    def laid_out(self) -> StepBias:
        """A copy of the present gate."""
        return _Step(self)


class _Step:
    """The gated bias in few operations: a small decoder's step takes no longer than some dozens of them."""

    def __init__(self, learned: GatedWordBias) -> None:
        self._gate = learned.gate.detach() / math.sqrt(len(learned.gate))
        self._gate_bias = learned.gate_bias.detach().clone()
        self._scale = float(learned.log_scale.detach().exp())

    def __call__(
        self, logits: Float[Tensor, "R V"], hidden: Float[Tensor, "R H"], unsaid: Unsaid
    ) -> Float[Tensor, "R V"]:
        images = len(unsaid.bias)
        openness = torch.addmv(self._gate_bias, hidden, self._gate).sigmoid_()
        before = logits.gather(1, unsaid.said)
        of_image = logits.view(images, -1, logits.shape[1])
        of_image.addcmul_(openness.view(images, -1, 1), unsaid.bias[:, None], value=self._scale)
        return logits.scatter_(1, unsaid.said, before)
