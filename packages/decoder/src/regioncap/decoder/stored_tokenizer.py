"""The tokenizer that a stored GPT-2 was trained with: GPT-2's own bytes, or one of ours beside the weights."""

from pathlib import Path
from typing import cast

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_tokenizers import TokenizersBackend

from regioncap.decoder.normalise import normaliser
from regioncap.decoder.tokenizer import CaptionTokenizer

_WANTED = "tokenizer.json, or vocab.json and merges.txt"


def stored_tokenizer(weights: str, *, numbers: bool = False) -> CaptionTokenizer:
    """The tokenizer of a stored GPT-2: a folder in transformers' format, or a hub name that is cached or reachable.

    One that normalises captions by itself is ours and is taken as it stands. GPT-2's (50,257 byte-level pieces) gets
    the normalisation of all our captions; its one special token, <|endoftext|>, begins, ends and pads a caption, so
    that no token has to be added to the weights. With `numbers`, numbers are `<num>`, which it says in three pieces.
    Raises ValueError naming the file that is missing.
    """
    folder = Path(weights)
    if folder.is_dir() and not (
        (folder / "tokenizer.json").is_file() or all((folder / name).is_file() for name in ("vocab.json", "merges.txt"))
    ):
        raise ValueError(f"decoder.weights: {weights} has no tokenizer ({_WANTED}): copy it beside the weights")
    try:
        ours = folder.is_dir() and not (folder / "vocab.json").is_file()
        tokenizer = (PreTrainedTokenizerFast if ours else AutoTokenizer).from_pretrained(weights)
    except OSError as error:
        raise ValueError(
            f"decoder.weights: found no tokenizer ({_WANTED}) at {weights}: give a folder that holds a GPT-2 and its "
            "tokenizer, or a hub name that is cached or reachable"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(f"decoder.weights: the tokenizer at {weights} has no token that ends a text: is it a GPT-2's?")
    for name in ("bos", "pad", "unk"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            setattr(tokenizer, f"{name}_token", tokenizer.eos_token)
    if tokenizer.backend_tokenizer.normalizer is None:
        tokenizer.backend_tokenizer.normalizer = normaliser(numbers)
    return CaptionTokenizer(cast(TokenizersBackend, tokenizer))
