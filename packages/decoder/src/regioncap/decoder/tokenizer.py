"""Captions to word ids and back."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Regex, Tokenizer, normalizers
from tokenizers.models import WordLevel
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNK, NUMBER = "<pad>", "<bos>", "<eos>", "<unk>", "<num>"
_SPECIAL = (PAD, BOS, EOS, UNK)
_HELD = "\ue000"  # stands for <num> while punctuation is removed; private use, which is removed before


def normalise(caption: str, *, numbers: bool = False) -> str:
    """A caption as the decoder sees it (paper, sec. 4.2): lower case, no punctuation, single spaces.

    Punctuation, symbols and control characters become spaces, so "a man's t-shirt" is "a man s t shirt": words that
    other captions share. With `numbers`, a number that stands alone ("12", "3.5", "1,000") becomes `<num>`; "2nd"
    stays. Applying it twice changes nothing.
    """
    return str(_normaliser(numbers).normalize_str(caption))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedCaptions:
    """Captions as ids. L captions, T tokens of the longest, bos and eos included."""

    tokens: Int[Tensor, "L T"]
    mask: Bool[Tensor, "L T"]
    """False on padding."""


class CaptionTokenizer:
    """Word-level tokenizer in transformers' own format (`tokenizer`, a `PreTrainedTokenizerFast`).

    Special ids: `pad`, `bos`, `eos`, `unk`. Captions are normalised by `normalise` on the way in.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.pad, self.bos, self.eos, self.unk = (int(tokenizer.vocab[token]) for token in _SPECIAL)

    @classmethod
    def train(cls, captions: Iterable[str], *, min_count: int = 5, numbers: bool = False) -> "CaptionTokenizer":
        """Know the words that appear at least `min_count` times, by falling count, then by alphabet.

        Raises ValueError if there is no caption or no word is that frequent.
        """
        if min_count < 1:
            raise ValueError(f"tokenizer.min_count must be at least 1, got {min_count}")
        normaliser = _normaliser(numbers)
        counts = Counter(word for caption in captions for word in normaliser.normalize_str(caption).split())
        words = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
        if not words:
            raise ValueError(
                f"tokenizer: no word appears {min_count} times among {counts.total()} words of the training captions: "
                "give more captions or lower tokenizer.min_count"
            )
        vocabulary = {word: i for i, word in enumerate((*_SPECIAL, *words))}
        fast = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
        fast.normalizer = normaliser
        fast.pre_tokenizer = WhitespaceSplit()
        fast.post_processor = TemplateProcessing(
            single=f"{BOS} $A {EOS}", special_tokens=[(token, vocabulary[token]) for token in (BOS, EOS)]
        )
        special = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNK}
        return cls(PreTrainedTokenizerFast(tokenizer_object=fast, **special))  # type: ignore[no-untyped-call]

    @classmethod
    def load(cls, folder: Path) -> "CaptionTokenizer":
        """Read what `save` wrote. Raises ValueError if the folder holds no tokenizer of this kind."""
        if not (folder / "tokenizer.json").is_file():
            raise ValueError(f"{folder}: found no tokenizer.json: give a folder written by CaptionTokenizer.save")
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        missing = [token for token in _SPECIAL if token not in tokenizer.vocab]
        if missing:
            raise ValueError(f"{folder}/tokenizer.json: has no {', '.join(missing)}: is it a caption tokenizer's?")
        return cls(tokenizer)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, readable by transformers' `AutoTokenizer`."""
        self.tokenizer.save_pretrained(folder)

    def __len__(self) -> int:
        return len(self.tokenizer)

    @property
    def words(self) -> tuple[str, ...]:
        """Every token by id, special ones included."""
        return tuple(self.tokenizer.convert_ids_to_tokens(list(range(len(self)))))

    @property
    def unspoken(self) -> tuple[int, ...]:
        """Ids a caption must not contain (pad, bos, unk): for `search`'s `suppress`."""
        return (self.pad, self.bos, self.unk)

    def normalise(self, caption: str) -> str:
        """`normalise` as this tokenizer was trained with."""
        return str(self.tokenizer.backend_tokenizer.normalizer.normalize_str(caption))

    def encode(self, captions: Sequence[str], max_tokens: int | None = None) -> EncodedCaptions:
        """Ids of [bos, words, eos], padded at the end to the longest.

        Captions longer than `max_tokens` (bos and eos included) are cut, without eos: a cut is no place to end.
        Raises ValueError for no captions, or a limit below 2.
        """
        if not captions:
            raise ValueError("there is no caption to encode")
        if max_tokens is not None and max_tokens < 2:
            raise ValueError(f"max_tokens must leave room for bos and one more token, got {max_tokens}")
        clean = [self.normalise(caption) for caption in captions]  # else a caption that says "<eos>" would end there
        rows = [encoded.ids[:max_tokens] for encoded in self.tokenizer.backend_tokenizer.encode_batch(clean)]
        lengths = torch.tensor([len(row) for row in rows])
        longest = int(lengths.max())
        tokens = torch.tensor([row + [self.pad] * (longest - len(row)) for row in rows])
        return EncodedCaptions(tokens=tokens, mask=torch.arange(longest) < lengths[:, None])

    def decode(self, ids: Int[Tensor, " T"]) -> str:
        """The words up to the first eos, special tokens left out."""
        said = ids.tolist()
        if self.eos in said:
            said = said[: said.index(self.eos)]
        return str(self.tokenizer.decode(said, skip_special_tokens=True))


def _normaliser(numbers: bool) -> Normalizer:
    steps = [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\p{C}+"), " ")]
    if numbers:
        steps += [
            normalizers.Replace(NUMBER, _HELD),
            normalizers.Replace(Regex(r"(?<![\w.,])\d+(?:[.,]\d+)*(?!\w)"), _HELD),
        ]
    steps.append(normalizers.Replace(Regex(r"[\p{P}\p{S}]+"), " "))
    if numbers:
        steps.append(normalizers.Replace(_HELD, NUMBER))
    return normalizers.Sequence([*steps, normalizers.Replace(Regex(r"[\s\p{Z}]+"), " "), normalizers.Strip()])
