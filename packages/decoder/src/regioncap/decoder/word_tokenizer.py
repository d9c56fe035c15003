"""A token for every frequent word."""

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from regioncap.decoder.normalise import normaliser
from regioncap.decoder.tokenizer import BOS, EOS, PAD, UNK, CaptionTokenizer

SPECIAL = (PAD, BOS, EOS, UNK)


def train_words(captions: Iterable[str], *, min_count: int = 5, numbers: bool = False) -> CaptionTokenizer:
    """Know the words that appear at least `min_count` times, by falling count, then by alphabet; others are unknown.

    With `numbers`, numbers are one word, `<num>`. Raises ValueError if there is no caption or no word is that frequent.
    """
    if min_count < 1:
        raise ValueError(f"tokenizer.min_count must be at least 1, got {min_count}")
    clean = normaliser(numbers)
    counts = Counter(word for caption in captions for word in clean.normalize_str(caption).split())
    words = sorted((word for word, n in counts.items() if n >= min_count), key=lambda word: (-counts[word], word))
    if not words:
        raise ValueError(
            f"tokenizer: no word appears {min_count} times among {counts.total()} words of the training captions: "
            "give more captions or lower tokenizer.min_count"
        )
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNK))
    tokenizer.normalizer = clean
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return finished(tokenizer)


def finished(tokenizer: Tokenizer) -> CaptionTokenizer:
    """A trained tokenizer with its special tokens named, so that transformers puts them around a caption as we do."""
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BOS} $A {EOS}", special_tokens=[(token, tokenizer.token_to_id(token)) for token in (BOS, EOS)]
    )
    special = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS, "unk_token": UNK}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    return CaptionTokenizer(fast)
