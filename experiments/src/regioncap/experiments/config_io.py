"""Configs as text: nested dataclasses to JSON and back, and to flat dotted keys.

`dataclasses.asdict` drops *which* class stands in a field that admits several, so every dataclass is written with a
`type` key, and reading picks among the classes that the field's annotation admits.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

Config = TypeVar("Config")
Scalar = str | int | float | bool | None


class ConfigError(ValueError):
    """A stored config does not fit the classes of this version; the message names the field."""


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain JSON values, each nested dataclass with its class name under `type`."""
    values: dict[str, Any] = {"type": type(config).__name__}
    for field in dataclasses.fields(config):
        values[field.name] = _plain(getattr(config, field.name))
    return values


def from_dict(annotation: type[Config], values: dict[str, Any], where: str = "config") -> Config:
    """The inverse of `to_dict`. Raises ConfigError for an unknown class or field, a missing one, a value of no use."""
    return typing.cast(Config, _read(annotation, values, where))


def flatten(config: Any, prefix: str = "") -> dict[str, Scalar]:
    """Dotted keys as on the command line; the key of a stage itself holds the name of its class."""
    flat: dict[str, Scalar] = {}
    for field in dataclasses.fields(config):
        key, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat |= {key: type(value).__name__} | flatten(value, f"{key}.")
        else:
            plain = _plain(value)
            flat[key] = plain if isinstance(plain, Scalar) else str(plain)
    return flat


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _read(annotation: Any, value: Any, where: str) -> Any:
    options = [_strip(option) for option in _options(annotation)]
    if isinstance(value, dict) and "type" in value:
        classes = {
            option.__name__: option
            for option in options
            if isinstance(option, type) and dataclasses.is_dataclass(option)
        }
        if value["type"] not in classes:
            raise ConfigError(f"{where}: unknown type {value['type']!r}; this version has {', '.join(sorted(classes))}")
        return _read_dataclass(classes[value["type"]], value, where)
    if isinstance(value, list) and any(option is Any or typing.get_origin(option) is tuple for option in options):
        return tuple(_read(_item_annotation(options), item, f"{where}[{i}]") for i, item in enumerate(value))
    if isinstance(value, str) and Path in options and str not in options:
        return Path(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in options and int not in options:
        return float(value)
    if not any(_admits(option, value) for option in options):
        wanted = " or ".join(_named(option) for option in options)
        raise ConfigError(f"{where}: got {value!r}, wanted {wanted}")
    return value


def _admits(option: Any, value: Any) -> bool:
    if option is Any:
        return True
    if typing.get_origin(option) is typing.Literal:
        return value in typing.get_args(option)
    # To Python a bool is an int; to a person it is not.
    return isinstance(option, type) and isinstance(value, option) and isinstance(value, bool) == (option is bool)


def _named(option: Any) -> str:
    if typing.get_origin(option) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    return "None" if option is type(None) else getattr(option, "__name__", str(option))


def _read_dataclass(cls: Any, values: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = {field.name for field in dataclasses.fields(cls)}
    given = set(values) - {"type"}
    if given != names:
        unknown, missing = sorted(given - names), sorted(names - given)
        raise ConfigError(
            f"{where} ({cls.__name__}): "
            + "; ".join(
                text
                for text in (
                    f"unknown field {', '.join(unknown)}" if unknown else "",
                    f"missing field {', '.join(missing)}" if missing else "",
                )
                if text
            )
            + ". It was written by another version: train again, or use that version"
        )
    return cls(**{name: _read(hints[name], values[name], f"{where}.{name}") for name in names})


def _options(annotation: Any) -> Iterator[Any]:
    annotation = _strip(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for option in typing.get_args(annotation):
            yield from _options(option)
    else:
        yield annotation


def _strip(annotation: Any) -> Any:
    return annotation.__origin__ if typing.get_origin(annotation) is typing.Annotated else annotation


def _item_annotation(options: list[Any]) -> Any:
    for option in options:
        if typing.get_origin(option) is tuple:
            return typing.get_args(option)[0]
    return Any
