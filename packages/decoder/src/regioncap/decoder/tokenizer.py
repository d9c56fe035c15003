"""Captions to token ids and back, whatever the tokens are: words, pieces of words, GPT-2's bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from transformers.tokenization_utils_tokenizers import TokenizersBackend

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
"""Special tokens of a trained tokenizer, ids 0 to 3. A stored GPT-2 has its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedCaptions:
    """Captions as ids. L captions, T tokens of the longest, bos and eos included."""

    tokens: Int[Tensor, "L T"]
    mask: Bool[Tensor, "L T"]
    """False on padding. It alone says so: a GPT-2 pads with its eos."""


class CaptionTokenizer:
    """A tokenizer in transformers' own format (`tokenizer`) and what captioning needs to know of it.

    Made by `train_words`, `train_bpe` or `stored_tokenizer`; `load` reads any of them back. Special ids: `pad`, `bos`,
    `eos`, `unk`; they may be one and the same, as in GPT-2. Captions are normalised by `normalise` on the way in.
    """

    def __init__(self, tokenizer: TokenizersBackend) -> None:
        special = {name: getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
        absent = [name for name, token in special.items() if token is None]
        if absent:
            raise ValueError(f"the tokenizer has no {' and no '.join(absent)} token: is it a caption tokenizer?")
        if tokenizer.backend_tokenizer.normalizer is None:
            raise ValueError("the tokenizer does not normalise captions: read it with stored_tokenizer")
        self.tokenizer = tokenizer
        self.pad, self.bos, self.eos, self.unk = (int(token) for token in special.values())

    @classmethod
    def load(cls, folder: Path) -> "CaptionTokenizer":
        """Read what `save` wrote. Raises ValueError if the folder holds no tokenizer of ours."""
        if not (folder / "tokenizer.json").is_file():
            raise ValueError(f"{folder}: found no tokenizer.json: give a folder written by CaptionTokenizer.save")
        try:
            return cls(PreTrainedTokenizerFast.from_pretrained(folder))
        except ValueError as error:
            raise ValueError(f"{folder}/tokenizer.json: {error}") from error

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, readable by transformers' `AutoTokenizer`."""
        self.tokenizer.save_pretrained(folder)

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def words(self) -> tuple[str, ...]:
        """Every token by id as it is stored, special ones included: pieces of words carry the mark of their kind."""
        return tuple(self.tokenizer.convert_ids_to_tokens(list(range(len(self)))))

    @property
    def unspoken(self) -> tuple[int, ...]:
        """Ids a caption must not contain (pad, bos, unk, but for one that is eos too): for `search`'s `suppress`."""
        return tuple(sorted({self.pad, self.bos, self.unk} - {self.eos}))

    def normalise(self, caption: str) -> str:
        """`normalise` as this tokenizer was trained with."""
        return str(self.tokenizer.backend_tokenizer.normalizer.normalize_str(caption))

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> EncodedCaptions:
        """Ids of [bos, tokens, eos], padded at the end to the longest.

        Captions longer than `max_tokens` (bos and eos included) are cut, without eos: a cut is no place to end.
        Raises ValueError for no captions, or a limit below 2.
        """
        if not captions:
            raise ValueError("there is no caption to encode")
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"max_tokens must leave room for bos and one more token, got {max_tokens}")
        clean = [self.normalise(caption) for caption in captions]  # else a caption that says "<eos>" would end there
        encoded = self.tokenizer.backend_tokenizer.encode_batch(clean, add_special_tokens=False)
        rows = [[self.bos, *row.ids, self.eos][:max_tokens] for row in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        tokens = torch.tensor([row + [self.pad] * (longest - len(row)) for row in rows])
        return EncodedCaptions(tokens=tokens, mask=torch.arange(longest) < lengths[:, None])

    def spellings(self, text: str) -> tuple[tuple[int, ...], ...]:
        """The ways in which `text` can stand in a caption, as ids: at its beginning, and behind another word.

        They differ in GPT-2's own tokenizer, whose pieces carry the space before them. Empty for a text without words.
        """
        clean = self.normalise(text)
        if not clean:
            return ()
        backend, before = self.tokenizer.backend_tokenizer, "a"
        first, lone, behind = (
            tuple(backend.encode(part, add_special_tokens=False).ids) for part in (clean, before, f"{before} {clean}")
        )
        return tuple(dict.fromkeys((first, behind[len(lone) :])))

    def decode(self, ids: Int[Tensor, " T"]) -> str:
        """The text up to the first eos behind the beginning, special tokens left out, words a space apart."""
        said = ids.tolist()
        if said and said[0] == self.bos:
            said = said[1:]
        if self.eos in said:
            said = said[: said.index(self.eos)]
        text = self.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return " ".join(str(text).split())
