import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from regioncap.decoder import SearchConfig
from regioncap.experiments.peers.hf_captioner import HfCaptionerConfig, generate_arguments, hf_search

Folder = Callable[[str], Path]
LENGTH = 7


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of several sizes, so that the image processor has something to do."""
    folder = tmp_path_factory.mktemp("pictures")
    files = []
    for number in range(4):
        colours = np.random.default_rng(number).integers(0, 255, (5, 5, 3), dtype=np.uint8)
        files.append(folder / f"{number}.png")
        Image.fromarray(colours).resize((40 + 9 * number, 50)).save(files[-1])
    return files


def slow_greedy(family: str, folder: Path, file: Path) -> str:
    """One forward pass a word, by each family's own forward: no `generate`."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    pixels = processor(images=Image.open(file).convert("RGB"), return_tensors="pt")["pixel_values"]
    config = model.config
    begin, end = {
        "blip": lambda: ([config.text_config.bos_token_id], config.text_config.sep_token_id),
        "blip-2": lambda: ([config.text_config.bos_token_id], 0),
        "git": lambda: ([config.bos_token_id], config.eos_token_id),
        "vision-encoder-decoder": lambda: ([0], 0),
    }[family]()
    said: list[int] = []
    for _ in range(LENGTH):
        ids = torch.tensor([begin + said])
        with torch.no_grad():
            logits = next_word(family, model, pixels, ids)
        if not said:
            logits[end] = -torch.inf
        said.append(int(logits.argmax()))
        if said[-1] == end:
            break
    return tokenizer.decode(said, skip_special_tokens=True).strip()


def next_word(family: str, model: Any, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    if family == "blip-2":  # its forward cannot be given a caption that says the image token, which a random one may
        seen = model.get_image_features(pixels).pooler_output
        told = torch.cat([seen, model.get_input_embeddings()(ids)], 1)
        return model.language_model(inputs_embeds=told).logits[0, -1]
    name = "decoder_input_ids" if family == "vision-encoder-decoder" else "input_ids"
    return model(pixel_values=pixels, **{name: ids}).logits[0, -1]


def built(folder: Path, **search: Any) -> Any:
    return HfCaptionerConfig(
        weights=str(folder), search=hf_search(SearchConfig(max_new_tokens=LENGTH, **search))
    ).build()


def test_greedy_captions_are_those_of_a_slow_loop(family: str, hf_folder: Folder, pictures: list[Path]) -> None:
    captions = built(hf_folder(family), beams=1)(pictures)
    assert captions == [slow_greedy(family, hf_folder(family), file) for file in pictures]
    assert len(set(captions)) > 1  # or a constant would pass
    assert all(captions)


def test_order_is_kept_and_batch_mates_change_nothing(family: str, hf_folder: Folder, pictures: list[Path]) -> None:
    captioner = built(hf_folder(family), beams=3)
    together = captioner(pictures)
    assert [captioner([file])[0] for file in pictures] == together
    assert captioner(pictures[::-1]) == together[::-1]


def test_search_is_ours_whatever_the_model_has_stored(hf_folder: Folder, pictures: list[Path], tmp_path: Path) -> None:
    """The stored search of the second folder would say one word, from one beam."""
    folder = shutil.copytree(hf_folder("vision-encoder-decoder"), tmp_path / "other")
    stored = json.loads((folder / "generation_config.json").read_text())
    own = {"num_beams": 1, "max_length": 2, "length_penalty": -3.0, "repetition_penalty": 9.0, "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(stored | own | {"no_repeat_ngram_size": 1}))
    assert built(folder, beams=3)(pictures) == built(hf_folder("vision-encoder-decoder"), beams=3)(pictures)


def test_search_counts(hf_folder: Folder, pictures: list[Path]) -> None:
    folder = hf_folder("vision-encoder-decoder")
    plain = built(folder, beams=3)(pictures)
    assert built(folder, beams=1)(pictures) != plain
    assert built(folder, beams=3, no_repeat_ngram=1)(pictures) != plain
    short = HfCaptionerConfig(weights=str(folder), search=hf_search(SearchConfig(max_new_tokens=2))).build()
    assert all(len(caption.split()) <= 2 for caption in short(pictures))


def test_arguments_are_the_search_in_the_words_of_generate() -> None:
    search = SearchConfig(
        greedy_tokens=0, beams=5, max_new_tokens=9, min_new_tokens=3, length_penalty=0.7, no_repeat_ngram=2
    )
    assert generate_arguments(search) == {
        "num_beams": 5,
        "num_return_sequences": 1,
        "do_sample": False,
        "max_new_tokens": 9,
        "min_new_tokens": 3,
        "no_repeat_ngram_size": 2,
        "repetition_penalty": 1.0,
        "length_penalty": 0.7,
        "early_stopping": False,
    }
    assert "length_penalty" not in generate_arguments(hf_search(SearchConfig(beams=1)))
    for ours, theirs in (("first", True), ("never", "never")):
        assert generate_arguments(hf_search(SearchConfig(early_stopping=ours)))["early_stopping"] == theirs


@pytest.mark.parametrize(
    "change",
    [
        {"method": "sample"},
        {"greedy_tokens": 3},
        {"captions": 2},
        {"diversity": 1.0},
        {"bad_words": ("dog",)},
        {"prompt": "a photo of"},
        {"precision": "int8"},
    ],
)
def test_what_cannot_be_followed_is_refused_and_not_ignored(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=rf"search\.{name} is .*, which hf: captioners cannot follow: leave it at"):
        HfCaptionerConfig(weights="anything", search=SearchConfig(**({"greedy_tokens": 0} | change)))


def test_our_search_for_them_is_always_followed() -> None:
    odd = SearchConfig(method="sample", greedy_tokens=2, captions=3, prompt="a", precision="int8", beams=4)
    assert generate_arguments(hf_search(odd))["num_beams"] == 4
    assert generate_arguments(hf_search())["num_beams"] == SearchConfig().beams


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (("config.json",), r"config\.json"),
        (("model.safetensors",), r"model\.safetensors or"),
        (("preprocessor_config.json",), r"preprocessor_config\.json or processor_config\.json"),
        (("tokenizer.json", "vocab.txt"), r"tokenizer\.json or vocab\.txt"),
    ],
)
def test_a_missing_file_is_named(hf_folder: Folder, tmp_path: Path, missing: tuple[str, ...], named: str) -> None:
    folder = shutil.copytree(hf_folder("blip"), tmp_path / "copy")
    for name in missing:
        (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"has no {named}.*: give hf: a folder that save_pretrained wrote"):
        built(folder)


def test_what_is_no_captioner_is_refused(hf_folder: Folder, tmp_path: Path, bert_folder: Path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        built(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no folder or installed package here, and the hub is not reachable"):
        HfCaptionerConfig(weights="somebody/some-captioner", search=hf_search()).build()
    folder = shutil.copytree(hf_folder("blip"), tmp_path / "bert")
    shutil.copy(bert_folder / "config.json", folder / "config.json")
    with pytest.raises(ValueError, match="is a bert; hf: runs captioners that need pixels alone: blip, blip-2, git"):
        built(folder)
    folder = shutil.copytree(hf_folder("git"), tmp_path / "cut")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match="cannot be loaded"):
        built(folder)
    folder = shutil.copytree(hf_folder("blip-2"), tmp_path / "old")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_token_index": None}))
    with pytest.raises(ValueError, match=r"has no image_token_index, so it was saved before transformers 4\.46"):
        built(folder)


def test_a_picture_that_does_not_decode_is_named(hf_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.png does not decode"):
        built(hf_folder("git"))([tmp_path / "broken.png"])


def test_maker_tells_weights_and_search_apart(hf_folder: Folder, tmp_path: Path) -> None:
    folder = shutil.copytree(hf_folder("git"), tmp_path / "copy")
    base = built(hf_folder("git")).maker
    assert built(folder).maker == base  # wherever it lies
    assert built(folder, beams=2).maker["search"] != base["search"]
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert built(folder).maker["captioner"] != base["captioner"]
