"""A captioner that transformers runs (BLIP, BLIP-2, GIT, ViT-GPT2), as a function of picture files."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

from regioncap.decoder import SearchConfig
from regioncap.encoders.images import read_image
from regioncap.encoders.quiet import quiet_transformers
from regioncap.encoders.weights import (
    MODEL_FILES,
    TOKENIZER_FILES,
    find_checkpoint,
    load_pretrained,
    load_tokenizer,
    one_line,
)
from regioncap.experiments.config_io import to_dict

PREFIX = "hf:"
"""What a name begins with that means a captioner of transformers."""
KINDS = ("blip", "blip-2", "git", "vision-encoder-decoder")
"""`model_type` of the captioners that need pixels and nothing else. Chat models want a prompt that is theirs alone, and
what they say depends on it: they are no peers without one."""
FILES = (*MODEL_FILES, ("preprocessor_config.json", "processor_config.json"), TOKENIZER_FILES)
_WAY_OUT = "give hf: a folder that save_pretrained wrote for model, image processor and tokenizer, or a hub's name"
_EARLY_STOPPING = {"heuristic": False, "first": True, "never": "never"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HfCaptionerConfig:
    """Which captioner, and how it looks for captions."""

    weights: str
    """Folder, or name in the hub."""
    search: SearchConfig
    """See `hf_search`."""

    def __post_init__(self) -> None:
        generate_arguments(self.search)

    def build(self) -> "HfCaptioner":
        """Load it, onto the GPU if there is one. Raises ValueError, one line, naming the file that is missing."""
        return HfCaptioner(self)


class HfCaptioner:
    """Picture files -> captions, by a published model with its own image processor and tokenizer.

    Beams, lengths and penalties are those of our own captioners, whatever the model's files say. Its weights run in
    float32.
    """

    def __init__(self, config: HfCaptionerConfig) -> None:
        source = find_checkpoint(config.weights, FILES, way_out=_WAY_OUT)
        _check_kind(source)
        self._tokenizer = load_tokenizer(AutoTokenizer, source, what="captioner", way_out=_WAY_OUT)
        self._processor = _image_processor(source)
        model = load_pretrained(AutoModelForImageTextToText, source, what="captioner", way_out=_WAY_OUT)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self._device)
        self._arguments = generate_arguments(config.search)
        self.maker: dict[str, Any] = {"captioner": _identity(source, model), "search": to_dict(config.search)}
        """All that decides what the captions are (`kept_captions`)."""
        self.parameters = sum(parameter.numel() for parameter in model.parameters())

    def __call__(self, files: Sequence[Path]) -> list[str]:
        """Caption a batch of pictures. Raises ValueError, one line, naming a file that does not decode."""
        pictures = [read_image(file) for file in files]
        with quiet_transformers(), torch.inference_mode():
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"].to(self._device)
            tokens = self._model.generate(pixel_values=pixels, **self._arguments)
        texts = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]


def hf_search(search: SearchConfig | None = None) -> SearchConfig:
    """Our search as transformers can do it: its beams are open from the first token on. The default beams if None."""
    base = SearchConfig() if search is None else search
    return SearchConfig(
        greedy_tokens=0,
        beams=base.beams,
        max_new_tokens=base.max_new_tokens,
        min_new_tokens=base.min_new_tokens,
        length_penalty=base.length_penalty,
        early_stopping=base.early_stopping,
        no_repeat_ngram=base.no_repeat_ngram,
    )


def generate_arguments(search: SearchConfig) -> dict[str, Any]:
    """`search` in the words of transformers' `generate`, with every default said, so that no file's own counts.

    Raises ValueError for a setting that it cannot follow.
    """
    followed = hf_search(search)
    for name in ("method", "greedy_tokens", "captions", "diversity", "bad_words", "prompt", "precision"):
        wanted, can = getattr(search, name), getattr(followed, name)
        if wanted != can:
            raise ValueError(
                f"search.{name} is {wanted!r}, which {PREFIX} captioners cannot follow: leave it at {can!r}"
            )
    arguments: dict[str, Any] = {
        "num_beams": search.beams,
        "num_return_sequences": 1,
        "do_sample": False,
        "max_new_tokens": search.max_new_tokens,
        "min_new_tokens": search.min_new_tokens,
        "no_repeat_ngram_size": search.no_repeat_ngram,
        "repetition_penalty": 1.0,
    }
    if search.beams > 1:  # greedy search warns of settings that it does not read
        arguments["length_penalty"] = search.length_penalty
        arguments["early_stopping"] = _EARLY_STOPPING[search.early_stopping]
    return arguments


def _check_kind(source: str) -> None:
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"captioner {source!r} cannot be loaded ({one_line(error)}): {_WAY_OUT}") from error
    if config.model_type not in KINDS:
        raise ValueError(
            f"{source} is a {config.model_type}; {PREFIX} runs captioners that need pixels alone: {', '.join(KINDS)}"
        )
    if config.model_type == "blip-2" and config.image_token_index is None:
        raise ValueError(
            f"config.json of {source} has no image_token_index, so it was saved before transformers 4.46: fetch the "
            "model again, the published ones have it since"
        )


def _image_processor(source: str) -> Any:
    try:
        with quiet_transformers():
            return AutoImageProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(f"{source} has no image processor that loads ({one_line(error)}): {_WAY_OUT}") from error


def _identity(source: str, model: Any) -> str:
    """A digest of the folder's files, or the hub's name and commit."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{source} {getattr(model.config, '_commit_hash', None)}"
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:20]
