"""Captions from prefixes: tokenizer, prefix forms, GPT-2, search."""

from regioncap.decoder.bpe_tokenizer import train_bpe
from regioncap.decoder.explanation import Explanation, explain
from regioncap.decoder.found import Captions
from regioncap.decoder.gpt2 import Gpt2Decoder, Gpt2DecoderConfig
from regioncap.decoder.incremental import IncrementalGpt2
from regioncap.decoder.keyword_pieces import KeywordPieces
from regioncap.decoder.lora import LoraConfig
from regioncap.decoder.mapping_networks import MappedPrefix, MlpMappingConfig, TransformerMappingConfig
from regioncap.decoder.normalise import normalise
from regioncap.decoder.prefix import FusedPrefix, FusedPrefixConfig, Prefix
from regioncap.decoder.prefix_tokens import TokenPrefix, TokenPrefixConfig
from regioncap.decoder.rollout import draw_captions
from regioncap.decoder.search import SearchConfig, search
from regioncap.decoder.state import DecoderState
from regioncap.decoder.stored_tokenizer import stored_tokenizer
from regioncap.decoder.token_spread import TokenSpread
from regioncap.decoder.tokenizer import CaptionTokenizer, EncodedCaptions
from regioncap.decoder.word_bias import GatedWordBiasConfig, NoWordBias, NoWordBiasConfig
from regioncap.decoder.word_tokenizer import train_words
from regioncap.decoder.wording import Wording

__all__ = [
    "CaptionTokenizer",
    "Captions",
    "DecoderState",
    "EncodedCaptions",
    "Explanation",
    "FusedPrefix",
    "FusedPrefixConfig",
    "GatedWordBiasConfig",
    "Gpt2Decoder",
    "Gpt2DecoderConfig",
    "IncrementalGpt2",
    "KeywordPieces",
    "LoraConfig",
    "MappedPrefix",
    "MlpMappingConfig",
    "NoWordBias",
    "NoWordBiasConfig",
    "Prefix",
    "SearchConfig",
    "TokenPrefix",
    "TokenPrefixConfig",
    "TokenSpread",
    "TransformerMappingConfig",
    "Wording",
    "draw_captions",
    "explain",
    "normalise",
    "search",
    "stored_tokenizer",
    "train_bpe",
    "train_words",
]
