"""The environment of all tests, and small models in the very format of the published ones, with random weights."""

import os

import pytest
import torch

# Before anything of the project is imported: no network, no telemetry, one thread for models this small.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.pop("MLFLOW_TRACKING_URI", None)
torch.set_num_threads(1)

SIZE = 64
"""Pixels a side that the small models take."""


@pytest.fixture
def processor(monkeypatch):
    """Sets whether the processor says that it computes bfloat16; where it does not, PyTorch emulates it."""
    from regioncap.encoders.arithmetic import _computes_bfloat16

    def says(has):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
        _computes_bfloat16.cache_clear()

    yield says
    _computes_bfloat16.cache_clear()


@pytest.fixture
def bfloat16(processor):
    """The processor says that it computes bfloat16."""
    processor(True)


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
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

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
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer

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


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory):
    """A BERT of 2 layers, 16 wide, in the format of bert-base-uncased; its word pieces are single letters."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert-base")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    spread(BertModel(BertConfig(vocab_size=len(pieces), **shape))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory):
    """A GPT-2 of 2 layers, 32 wide, that speaks bytes."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    folder = tmp_path_factory.mktemp("gpt2")
    pieces = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    GPT2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]).save_pretrained(folder)
    torch.manual_seed(0)
    end = len(pieces) - 1
    shape = GPT2Config(
        vocab_size=len(pieces), n_positions=256, n_embd=32, n_layer=2, n_head=2, bos_token_id=end, eos_token_id=end
    )
    GPT2LMHeadModel(shape).save_pretrained(folder)
    return folder
