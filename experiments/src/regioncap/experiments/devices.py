"""Boundary dataclasses of tensors on another device."""

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

Boundary = TypeVar("Boundary")


def on_device(value: Boundary, device: torch.device) -> Boundary:
    """A tensor, or a frozen dataclass or tuple of such, on `device`; anything else in it is left as it is."""
    return _moved(value, device)  # type: ignore[no-any-return]  # what comes back is of the class that went in


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(_moved(item, device) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: _moved(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)
    return value
