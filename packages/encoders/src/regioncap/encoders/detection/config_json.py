"""A config with its chosen variants as readable JSON, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

_TYPE = "type"


def to_json(value: Any) -> Any:
    """Return dataclasses as dicts that name their class, everything else as it is."""
    if is_dataclass(value):
        inside = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return {_TYPE: type(value).__name__, **inside}
    return value


def from_json(value: Any, classes: Mapping[str, type]) -> Any:
    """Return what `to_json` was given. `classes` are those that may stand in it, by name.

    Raises ValueError for another class or a field it does not have.
    """
    if isinstance(value, list):
        return tuple(from_json(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    name = str(value.get(_TYPE))
    if name not in classes:
        raise ValueError(f"{_TYPE} must be one of {', '.join(classes)}, got {name!r}")
    inside = {key: from_json(item, classes) for key, item in value.items() if key != _TYPE}
    try:
        return classes[name](**inside)
    except TypeError as error:
        raise ValueError(f"{name} has other fields: {error}") from error
