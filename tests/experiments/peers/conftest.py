"""Captioners of transformers' four families: random weights, a few words, the files of the published ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from transformers import (
    BertTokenizer,
    Blip2Config,
    Blip2ForConditionalGeneration,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    CLIPImageProcessor,
    GitConfig,
    GitForCausalLM,
    GPT2Config,
    OPTConfig,
    PreTrainedTokenizerFast,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

WORDS = ("a", "the", "dog", "cat", "red", "runs", "sits", "on", "grass", "and", "two", "ball")
SIDE = 32
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
VISION = TOWER | {"image_size": SIDE, "patch_size": 16}


def bert_words(folder: Path) -> BertTokenizer:
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    return BertTokenizer.from_pretrained(folder)


def gpt2_words() -> PreTrainedTokenizerFast:
    """Words with the space before them, as GPT-2's tokens have it."""
    vocabulary = {token: at for at, token in enumerate(["<|endoftext|>", "<image>", *(f"Ġ{word}" for word in WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = ByteLevelDecoder()
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end, additional_special_tokens=["<image>"]
    )


def blip(folder: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_words(folder)
    text = TOWER | {
        "vocab_size": len(tokenizer) + 2,
        "encoder_hidden_size": 32,
        "max_position_embeddings": 32,
        "bos_token_id": len(tokenizer),  # [DEC], which the published tokenizer lacks too
        "eos_token_id": 2,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    model = BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=VISION, projection_dim=16))
    return model, tokenizer, BlipImageProcessor(size={"height": SIDE, "width": SIDE})


def blip2(folder: Path) -> tuple[Any, Any, Any]:
    tokenizer = gpt2_words()
    text = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        word_embed_proj_dim=32,
        ffn_dim=48,
        num_attention_heads=4,
        num_hidden_layers=2,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    config = Blip2Config(
        vision_config=VISION,
        qformer_config=TOWER | {"vocab_size": 20, "encoder_hidden_size": 32, "cross_attention_frequency": 1},
        text_config=text.to_dict(),
        num_query_tokens=3,
        image_token_index=1,
    )
    return Blip2ForConditionalGeneration(config), tokenizer, BlipImageProcessor(size={"height": SIDE, "width": SIDE})


def git(folder: Path) -> tuple[Any, Any, Any]:
    tokenizer = bert_words(folder)
    config = GitConfig(
        vision_config=VISION,
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        **TOWER,
    )
    size = {"shortest_edge": SIDE}
    processor = CLIPImageProcessor(size=size, crop_size={"height": SIDE, "width": SIDE})
    return GitForCausalLM(config), tokenizer, processor


def vit_gpt2(folder: Path) -> tuple[Any, Any, Any]:
    tokenizer = gpt2_words()
    text = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=32,
        n_head=4,
        n_layer=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        is_decoder=True,
        add_cross_attention=True,
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**VISION), text)
    config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = 0
    model = VisionEncoderDecoderModel(config)
    # As the published one has it: four beams and 16 tokens, which are not ours.
    model.generation_config.update(
        decoder_start_token_id=0, bos_token_id=0, eos_token_id=0, pad_token_id=0, num_beams=4, max_length=16
    )
    return model, tokenizer, ViTImageProcessor(size={"height": SIDE, "width": SIDE})


FAMILIES: dict[str, Callable[[Path], tuple[Any, Any, Any]]] = {
    "blip": blip,
    "blip-2": blip2,
    "git": git,
    "vision-encoder-decoder": vit_gpt2,
}


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family, written once."""
    root = tmp_path_factory.mktemp("hf")

    def folder_of(family: str) -> Path:
        folder = root / family
        if not folder.exists():
            folder.mkdir()
            torch.manual_seed(3)
            parts = FAMILIES[family](folder)
            with torch.no_grad():
                for name, parameter in parts[0].named_parameters():
                    if parameter.ndim > 1 and "norm" not in name.lower():
                        parameter.normal_(0, 1.5 * parameter[0].numel() ** -0.5)  # so that pictures differ in words
            for part in parts:
                part.save_pretrained(folder)
        return folder

    return folder_of
