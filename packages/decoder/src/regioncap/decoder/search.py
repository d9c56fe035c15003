"""Captions from prefixes: greedy for the first tokens and then by beams, or drawn at random."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regioncap.decoder.beams import BeamRules, EarlyStopping, beam_search
from regioncap.decoder.constraints import Constraints
from regioncap.decoder.found import Captions, Found, Underway
from regioncap.decoder.greedy import greedy_search
from regioncap.decoder.incremental import IncrementalGpt2
from regioncap.decoder.projections import Precision
from regioncap.decoder.sampling import SamplingRules, sample
from regioncap.decoder.wording import Wording


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """How captions are looked for."""

    method: Literal["beam", "sample"] = "beam"
    """`beam`: greedy for the first tokens, then by beams. `sample`: each word drawn from its nucleus."""
    greedy_tokens: int = 3
    """Tokens taken greedily before the beams open (n); 0 is plain beam search. `beam` only."""
    beams: int = 3
    """Beams after that (k); 1 is plain greedy search. `beam` only."""
    captions: int = 1
    """Different captions of each image, best first; more than one needs as many beams, or `diversity`."""
    diversity: float = 0.0
    """Above 0, each of the `captions` has `beams` of its own, and a word costs this much log-probability for every beam
    of an earlier caption that says it at the same place (diverse beam search, Vijayakumar et al. 2018). `beam` only."""
    max_new_tokens: int = 30
    """Longest caption, eos included."""
    min_new_tokens: int = 1
    """eos is not allowed before this many tokens."""
    length_penalty: float = 1.0
    """A caption of n tokens, eos included, scores log p / n ** length_penalty: above 0 favours long ones."""
    early_stopping: EarlyStopping = "heuristic"
    """When a beam search ends: `heuristic`, when the best open beam, were it to end now, could not displace the worst
    ended caption; `first`, when `beams` captions have ended; `never`, when no open beam could do so at the length that
    suits it best. transformers' False, True and "never"."""
    word_strength: float = 1.0
    """What the bias of an image's words is multiplied by, beside what training made of it; 0 tells nothing. Training
    feeds true words, which need less telling: a search may gain by more (docs/quality.md)."""
    no_repeat_ngram: int = 0
    """No n-gram of this many tokens appears twice in a caption; 0 allows all."""
    bad_words: tuple[str, ...] = ()
    """Words and phrases that are never said. Where tokens are pieces of words, nor are words that begin with them."""
    prompt: str = ""
    """How every caption begins, such as "a photo of"; counts neither in the score nor in the length."""
    temperature: float = 1.0
    """Below 1 makes likely words likelier. `sample` only."""
    top_p: float = 0.9
    """Share of the probability that the nucleus holds. `sample` only."""
    seed: int = 0
    """Of what is drawn. `sample` only."""
    precision: Precision = "float32"
    """Arithmetic of the matrix products. float32 says what transformers says, word for word; bfloat16 and, on CPUs,
    int8 are faster and change a caption now and then."""

    def __post_init__(self) -> None:
        least = {"greedy_tokens": 0, "beams": 1, "captions": 1, "max_new_tokens": 1, "min_new_tokens": 0}
        for name, minimum in {**least, "no_repeat_ngram": 0, "diversity": 0, "word_strength": 0}.items():
            if not getattr(self, name) >= minimum:
                raise ValueError(f"search.{name} must be at least {minimum}, got {getattr(self, name)}")
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"search.min_new_tokens is {self.min_new_tokens}, "
                f"more than search.max_new_tokens, {self.max_new_tokens}: lower the one or raise the other"
            )
        if not self.temperature > 0:
            raise ValueError(f"search.temperature must be positive, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"search.top_p must lie in (0, 1], got {self.top_p}")
        if self.method == "beam" and not self.diversity and self.captions > self.beams:
            raise ValueError(
                f"search.captions={self.captions} needs as many beams, got search.beams={self.beams}: raise the beams, "
                "or give search.diversity, which gives each caption beams of its own"
            )

    def several(self, n: int) -> "SearchConfig":
        """The same search for n captions that differ; without a `diversity` of its own it gets 1."""
        if n == 1 or self.method == "sample":
            return replace(self, captions=n)
        return replace(self, captions=n, diversity=self.diversity or 1.0)


@torch.no_grad()
def search(
    decoder: IncrementalGpt2,
    prefix: Float[Tensor, "B P H"],
    valid: Bool[Tensor, "B P"],
    config: SearchConfig,
    wording: Wording | None = None,
    added: Float[Tensor, "B H"] | None = None,
    keys: Sequence[int] | None = None,
    bias: Float[Tensor, "B V"] | None = None,
) -> Captions:
    """Find `config.captions` captions for each prefix.

    With greedy_tokens=0 this is transformers' beam search token for token, with beams=1 its greedy search. A hybrid
    caption is scored as a whole: its greedy tokens count in the sum and in the length, and one that ends among them is
    final, the only one of its image. An image whose captions are found leaves the batch; nothing depends on
    batch-mates. `decoder` comes from `Gpt2Decoder.incremental`. `wording` says in token ids what the config says in
    words (`Wording.of`). `added` joins the embedding of every word and `bias` is known of the words, see `Gpt2Decoder`.
    `keys` name the images for sampling: the same key and seed draw the same words, by default an image's place in the
    batch is its key.
    Raises ValueError if a prefix is empty or no number, a bias no number or of other words, the positions do not
    suffice, or the vocabulary is too small.
    """
    wording = wording or Wording()
    _check(decoder, prefix, valid, config, wording, told=added is not None)
    _check_bias(decoder, bias)
    found = Found(
        images=len(prefix),
        captions=config.captions,
        longest=config.max_new_tokens,
        pad=decoder.pad,
        length_penalty=config.length_penalty,
        device=prefix.device,
    )
    if not len(prefix):
        return found.captions()
    constrain = Constraints(
        eos=decoder.eos,
        suppress=wording.suppress,
        bad_words=wording.bad_words,
        prompt=wording.prompt,
        least=config.min_new_tokens,
        no_repeat_ngram=config.no_repeat_ngram,
    )
    told = None if bias is None else bias * config.word_strength
    logits, state = decoder.prefill(prefix, valid, added, wording.prompt, told)
    begun = Underway(
        images=torch.arange(len(prefix), device=prefix.device),
        tokens=torch.zeros(len(prefix), 0, dtype=torch.long, device=prefix.device),
        log_probs=torch.zeros(len(prefix), 0, device=prefix.device),
        logits=logits,
        state=state,
    )
    if config.method == "sample":
        sample(decoder, begun, constrain, found, _sampling_rules(config), keys or range(len(prefix)))
        return found.captions()
    rules = _beam_rules(config)
    greedy = config.max_new_tokens if rules.beams * rules.groups == 1 else config.greedy_tokens
    begun = greedy_search(decoder, begun, constrain, found, tokens=greedy, longest=config.max_new_tokens)
    if len(begun.images):
        beam_search(decoder, begun, constrain, found, rules)
    return found.captions()


def _beam_rules(config: SearchConfig) -> BeamRules:
    return BeamRules(
        beams=config.beams,
        captions=config.captions,
        longest=config.max_new_tokens,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        diversity=config.diversity,
    )


def _sampling_rules(config: SearchConfig) -> SamplingRules:
    return SamplingRules(
        captions=config.captions,
        longest=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        length_penalty=config.length_penalty,
        seed=config.seed,
    )


def _check(
    decoder: IncrementalGpt2, prefix: Tensor, valid: Tensor, config: SearchConfig, wording: Wording, *, told: bool
) -> None:
    needed = prefix.shape[1] + len(wording.prompt) + config.max_new_tokens
    if needed > decoder.positions:
        raise ValueError(
            f"a prefix of {prefix.shape[1]} slots, a prompt of {len(wording.prompt)} tokens and "
            f"search.max_new_tokens={config.max_new_tokens} take {needed} positions, the decoder has "
            f"{decoder.positions}: shorten them or raise decoder.positions"
        )
    silent = (~valid.any(1)).nonzero()[:, 0].tolist()
    if silent and not told:
        raise ValueError(
            f"the prefix of image {silent[0]} of the batch has no valid slot ({prefix.shape[1]} in all): nothing says "
            "what is to be captioned; give every image at least one"
        )
    broken = (~torch.isfinite(prefix).all(-1) & valid).any(1).nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(f"the prefix of image {broken[0]} of the batch is not finite: check its features and weights")
    if (config.prompt and not wording.prompt) or (config.bad_words and not wording.bad_words):
        raise ValueError("search.prompt and search.bad_words are words: give their ids too, wording=Wording.of(...)")
    said = {*wording.suppress, *wording.prompt, *(token for word in wording.bad_words for token in word)}
    if said and not 0 <= min(said) <= max(said) < decoder.vocab_size:
        raise ValueError(
            f"the wording has token {max(said)}, the decoder {decoder.vocab_size} tokens: it was made by another "
            "tokenizer"
        )
    words = decoder.vocab_size - len(set(wording.suppress))
    if config.method == "beam" and 2 * config.beams > words:
        raise ValueError(
            f"search.beams={config.beams} needs {2 * config.beams} words to choose from, "
            f"the vocabulary leaves {words}: use fewer beams"
        )


def _check_bias(decoder: IncrementalGpt2, bias: Float[Tensor, "B V"] | None) -> None:
    if bias is None:
        return
    if bias.shape[1] != decoder.vocab_size:
        raise ValueError(
            f"the bias is of {bias.shape[1]} words, the decoder has {decoder.vocab_size} tokens: spread the scores of "
            "words over its vocabulary with TokenSpread"
        )
    broken = (~torch.isfinite(bias)).any(1).nonzero()[:, 0].tolist()
    if broken:
        raise ValueError(
            f"the word bias of image {broken[0]} of the batch is not finite: check its scores; what must never be said "
            "belongs in search.bad_words"
        )
