"""Make a small, untrained BERT whose words are those of the captions at hand."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from regioncap.encoders.quiet import quiet_transformers

_PAD, _UNKNOWN, _START, _END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallBertConfig:
    """Shape of a small BERT for a small vocabulary, such as that of procedural scenes."""

    layers: int = 2
    """Transformer layers."""
    width: int = 128
    """Channels of a token, and of the text vector."""
    heads: int = 4
    """Attention heads; they divide `width`."""
    positions: int = 64
    """Longest text in tokens, two special ones included."""
    dropout: float = 0.0
    """On states and attention; a small model of a small language underfits before it overfits."""
    min_count: int = 1
    """Words seen less often become unknown."""
    seed: int = 0
    """Of the initial weights."""

    def __post_init__(self) -> None:
        for name, least in (("layers", 1), ("width", 1), ("heads", 1), ("positions", 3), ("min_count", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"small_bert.{name} must be at least {least}, got {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"small_bert.heads must divide small_bert.width {self.width}, got {self.heads}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"small_bert.dropout must lie in [0, 1), got {self.dropout}")


def build_small_bert(captions: Iterable[str], config: SmallBertConfig, folder: Path) -> None:
    """Write an untrained BERT with a word-level tokenizer into `folder`, in transformers' format.

    `TextEncoderConfig(weights=str(folder))` loads it for training, and `TextEncoder.save` writes it back as float16. A
    word piece vocabulary of 30,000 entries would outweigh the rest of such a model a hundred times. The same captions,
    in whatever order, give the same folder. Raises ValueError if the captions hold no word.
    """
    tokenizer = _word_tokenizer(captions, config)
    bert = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=4 * config.width,
        max_position_embeddings=config.positions,
        hidden_dropout_prob=config.dropout,
        attention_probs_dropout_prob=config.dropout,
        type_vocab_size=1,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = BertModel(bert, add_pooling_layer=False)
    with quiet_transformers():
        model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
        tokenizer.save_pretrained(folder)


def _word_tokenizer(captions: Iterable[str], config: SmallBertConfig) -> PreTrainedTokenizerFast:
    normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\w\s<>]+"), " ")])
    counts = Counter(word for caption in captions for word in normalizer.normalize_str(caption).split())
    frequent = sorted((word for word, n in counts.items() if n >= config.min_count), key=lambda w: (-counts[w], w))
    if not frequent:
        raise ValueError(f"no word occurs {config.min_count} times or more in the captions: lower small_bert.min_count")
    words = [_PAD, _UNKNOWN, _START, _END, *frequent]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, words.index(_START)), (_END, words.index(_END))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        cls_token=_START,
        sep_token=_END,
        model_max_length=config.positions,
    )
