"""Find pre-trained weights on this machine: a folder, or an installed package that carries them."""

from importlib.util import find_spec
from pathlib import Path


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
