"""torchvision's published weights, from a file or by name, without pickle."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models import WeightsEnum


def load_weights(weights: str, names: type[WeightsEnum], field: str) -> dict[str, Tensor]:
    """Return the state dict in the file `weights` (.pth or .safetensors), or of that name among `names`.

    A name is looked up in torch's own cache and fetched into it if it is not there. Raises ValueError, one line that
    tells what to download and where to put it, if that fails, and for a file that holds no state dict.
    """
    path = Path(weights)
    if weights in names.__members__:
        return _named(names[weights])
    if not path.is_file():
        known = ", ".join(names.__members__)
        raise ValueError(f"{field} {weights!r} is neither a file nor one of torchvision's names ({known})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a foreign file raises whatever its bytes happen to provoke
        raise ValueError(f"{path} is no torchvision weights file ({type(error).__name__}): fetch it again") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict (names to tensors): save `model.state_dict()`")
    return dict(state)


def _named(member: WeightsEnum) -> dict[str, Tensor]:
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(member.url).name
    try:
        state: dict[str, Tensor] = member.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a cut download, a full disk: each raises types of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{member} could not be fetched ({reason}): download {member.url} elsewhere and put it at {file}"
        ) from error
    return state
