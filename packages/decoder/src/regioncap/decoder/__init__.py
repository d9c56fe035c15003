"""Captions from prefixes: tokenizer, prefix forms, GPT-2, search."""

from regioncap.decoder.found import Captions
from regioncap.decoder.gpt2 import Gpt2Decoder, Gpt2DecoderConfig
from regioncap.decoder.incremental import IncrementalGpt2
from regioncap.decoder.prefix import FusedPrefix, FusedPrefixConfig, Prefix, TokenPrefix, TokenPrefixConfig
from regioncap.decoder.search import SearchConfig, search
from regioncap.decoder.state import DecoderState
from regioncap.decoder.tokenizer import CaptionTokenizer, EncodedCaptions, normalise
from regioncap.decoder.wording import Wording

__all__ = [
    "CaptionTokenizer",
    "Captions",
    "DecoderState",
    "EncodedCaptions",
    "FusedPrefix",
    "FusedPrefixConfig",
    "Gpt2Decoder",
    "Gpt2DecoderConfig",
    "IncrementalGpt2",
    "Prefix",
    "SearchConfig",
    "TokenPrefix",
    "TokenPrefixConfig",
    "Wording",
    "normalise",
    "search",
]
