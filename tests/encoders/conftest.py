"""Small models with random weights in the very format of the published ones, made once for all tests."""

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

SIZE = 64


def spread(model):
    """Weights so large that no layer's part in the result is lost in rounding."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif "norm" not in name and "scale" not in name:
                parameter.normal_(0, 0.2)
    return model.eval()


def tower(**more):
    return {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3} | more


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A CLIP ViT of 3 layers, 32 wide, on 64 pixels in patches of 16; joint width 24."""
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], model_max_length=77)
    tokenizer.save_pretrained(folder)
    config = CLIPConfig(
        text_config=tower(
            vocab_size=len(pieces),
            max_position_embeddings=77,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config=tower(image_size=SIZE, patch_size=16),
        projection_dim=24,
    )
    spread(CLIPModel(config)).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory):
    """A SigLIP of the same shape; its tokenizer is a SentencePiece model."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="SigLIP's tokenizer needs sentencepiece")
    from transformers import SiglipTokenizer

    folder = tmp_path_factory.mktemp("siglip")
    lines = ["a dog runs on the wet beach", "two men stand beside a red boat", "snow on a green mountain"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines * 3),
        model_prefix=str(folder / "spiece"),
        vocab_size=30,
        pad_id=2,
        eos_id=1,
        bos_id=-1,
        unk_id=0,
        minloglevel=2,
    )
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), model_max_length=16)
    tokenizer.save_pretrained(folder)
    config = SiglipConfig(
        text_config=tower(vocab_size=64, max_position_embeddings=16, pad_token_id=1, bos_token_id=0, eos_token_id=1),
        vision_config=tower(image_size=SIZE, patch_size=16),
    )
    spread(SiglipModel(config)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": SIZE, "width": SIZE}).save_pretrained(folder)
    return folder
