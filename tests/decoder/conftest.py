"""A stored GPT-2 tokenizer: byte-level pieces in GPT-2's own files, small enough for a test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer

END = "<|endoftext|>"


@pytest.fixture(scope="session")
def save_gpt2_tokenizer() -> Callable[[Path], Path]:
    """Writes vocab.json, merges.txt and a config.json into a folder, as OpenAI's release has them."""

    def save(folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        captions = ["A man's dog runs after 3 running dogs.", "two men and the dog run", "a red ball"] * 3
        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(captions, vocab_size=300, min_frequency=1, show_progress=False)
        tokenizer.save_model(str(folder))
        vocabulary = json.loads((folder / "vocab.json").read_text())
        vocabulary[END] = len(vocabulary)  # the last one, as in GPT-2
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        return folder

    return save
