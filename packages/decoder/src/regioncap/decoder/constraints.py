"""What a caption may not say next."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor


class Constraints:
    """Sets the scores of tokens that may not come next to -inf.

    `suppress` are never said, `bad_words` never in their order, `eos` not before `least` tokens, and no n-gram of
    `no_repeat_ngram` tokens twice (0 allows all). The `prompt` counts for n-grams and bad words, not for `least`.
    The last two rules are transformers' own processors. R rows, t tokens said, V words.
    """

    def __init__(
        self,
        *,
        eos: int,
        suppress: Sequence[int],
        bad_words: Sequence[Sequence[int]],
        prompt: Sequence[int],
        least: int,
        no_repeat_ngram: int,
    ) -> None:
        self._eos, self._suppress, self._least = eos, list(suppress), least
        self._prompt = list(prompt)
        self._processors: list[NoRepeatNGramLogitsProcessor | NoBadWordsLogitsProcessor] = []
        if no_repeat_ngram:
            self._processors.append(NoRepeatNGramLogitsProcessor(no_repeat_ngram))
        if bad_words:
            self._processors.append(NoBadWordsLogitsProcessor([list(word) for word in bad_words], eos_token_id=eos))

    def __call__(self, scores: Float[Tensor, "R V"], tokens: Int[Tensor, "R t"]) -> Float[Tensor, "R V"]:
        """The scores with what is forbidden at -inf, in the caller's tensor where possible: use what is returned."""
        if self._suppress:
            scores[:, self._suppress] = -torch.inf
        if tokens.shape[1] < self._least:
            scores[:, self._eos] = -torch.inf
        if self._processors:
            told = torch.tensor(self._prompt, dtype=tokens.dtype, device=tokens.device).expand(len(tokens), -1)
            said = torch.cat([told, tokens], dim=1)
            for processor in self._processors:
                scores = processor(said, scores)
        return scores
