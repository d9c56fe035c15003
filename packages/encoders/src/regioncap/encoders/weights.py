"""Find and load pre-trained weights: a folder, an installed package that carries them, or a hub name."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from regioncap.encoders.quiet import quiet_transformers

MODEL_FILES = (
    ("config.json",),
    ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
)
"""What a folder of a transformers model holds: one of each."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model")
"""What a folder of a tokenizer holds one of."""


def package_folder(name: str) -> Path | None:
    """Return the folder of the installed Python package of the distribution `name` ("a-b" -> a_b), or None.

    The package is located, never imported: weights packages may run code at import.
    """
    module = name.replace("-", "_")
    spec = find_spec(module) if module.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def require_file(folder: Path, *alternatives: str, way_out: str) -> Path:
    """Return the first of `alternatives` that `folder` holds; ValueError with the `way_out` if it holds none."""
    for name in alternatives:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has no {' or '.join(alternatives)}: {way_out}")


def find_checkpoint(weights: str, files: Sequence[Sequence[str]], *, way_out: str) -> str:
    """Return the folder of `weights` (its own, or `model` of an installed package), with all of `files` in it.

    The name itself if only the hub can have it. Raises ValueError naming the file that is missing.
    """
    folder = Path(weights)
    if not folder.is_dir():
        package = package_folder(weights)
        if package is None:
            if folder.is_absolute() or weights.startswith("."):
                raise ValueError(f"there is no folder {weights}: {way_out}")
            return weights
        folder = package / "model"
    for alternatives in files:
        require_file(folder, *alternatives, way_out=way_out)
    return str(folder)


def load_pretrained(auto: Any, source: str, *, what: str, way_out: str, without: Sequence[str] = ()) -> Any:
    """Load a model by one of transformers' Auto classes, in float32 and evaluation mode, from safetensors or by
    `torch.load(weights_only=True)`.

    Raises ValueError, one line, if it cannot be loaded, or if the weights lack tensors (but those named `without`).
    """
    try:
        with quiet_transformers():
            model, found = auto.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True, weights_only=True, trust_remote_code=False
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError, UnpicklingError) as error:
        raise ValueError(f"{what} {source!r} cannot be loaded ({one_line(error)}): {way_out}") from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(tuple(without)))
    if missing:
        raise ValueError(f"the weights in {source} lack {len(missing)} tensors, {missing[0]} first: {way_out}")
    return model.eval()


def load_tokenizer(auto: Any, source: str, *, what: str, way_out: str) -> Any:
    """Load the tokenizer of `source` by transformers' AutoTokenizer. Raises ValueError, one line."""
    try:
        with quiet_transformers():
            return auto.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise ValueError(f"{what} {source!r} has no tokenizer that loads ({one_line(error)}): {way_out}") from error


def one_line(error: Exception) -> str:
    """The first paragraph of what an error says; of the hub's, which links to its manual, what matters here."""
    if isinstance(error, UnpicklingError):
        return "its weights file holds more than tensors, or is damaged; nothing of it was run"
    text = str(error).strip()
    if "couldn't connect" in text or "offline mode is enabled" in text:
        return "it is no folder or installed package here, and the hub is not reachable or HF_HUB_OFFLINE is set"
    return " ".join(text.split("\n\n")[0].split()) if text else type(error).__name__
