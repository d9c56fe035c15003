"""A token for every frequent piece of a word: byte-pair encoding (Sennrich et al. 2016, arXiv 1508.07909)."""

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Metaspace
from tokenizers.trainers import BpeTrainer

from regioncap.decoder.normalise import NUMBER, normaliser
from regioncap.decoder.tokenizer import UNK, CaptionTokenizer
from regioncap.decoder.word_tokenizer import SPECIAL, finished

_SPACE = "▁"  # stands before the first piece of a word


def train_bpe(
    captions: Iterable[str], *, size: int = 4000, min_count: int = 2, numbers: bool = False
) -> CaptionTokenizer:
    """Know every character of `captions`, and join the pair of pieces seen most often until there are `size` tokens.

    A pair seen less than `min_count` times is not joined, so there may be fewer tokens. No word that is written in
    known characters is unknown. With `numbers`, numbers are `<num>`, which is never split. Raises ValueError if there
    is no caption, or `size` leaves no room for a pair.
    """
    if min_count < 1:
        raise ValueError(f"tokenizer.min_count must be at least 1, got {min_count}")
    clean = normaliser(numbers)
    texts = [part.strip() for caption in captions for part in clean.normalize_str(caption).split(NUMBER)]
    characters = {_SPACE, *"".join(texts)} - {" "}
    if len(characters) == 1:
        raise ValueError("tokenizer: the training captions hold no word: give captions")
    whole = [NUMBER] if numbers else []
    least = len(SPECIAL) + len(characters) + len(whole)
    if size <= least:
        raise ValueError(
            f"tokenizer.size must exceed the {least} characters and special tokens of the training captions, "
            f"got {size}: raise it"
        )
    tokenizer = Tokenizer(BPE(unk_token=UNK))
    tokenizer.normalizer = clean
    tokenizer.pre_tokenizer = Metaspace(_SPACE, prepend_scheme="always")
    tokenizer.train_from_iterator(
        filter(None, texts),
        BpeTrainer(
            vocab_size=size - len(whole), min_frequency=min_count, special_tokens=list(SPECIAL), show_progress=False
        ),
    )
    # As a token of its own <num> has no space mark: it takes the space before it, and gets it back when decoded.
    tokenizer.add_tokens([AddedToken(token, lstrip=True, normalized=True) for token in whole])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(NUMBER, _SPACE + NUMBER), decoders.Metaspace(_SPACE)])
    return finished(tokenizer)
