"""Frozen dataclasses as JSON: written with the name of their class, read back by the types of their fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

Message = TypeVar("Message")
Value = TypeVar("Value")
Reader = Callable[[Any], Any]
"""Makes the value of a field from what JSON holds of it; ValueError, TypeError or KeyError: it can't be one."""


class MessageCodec(Generic[Message]):
    """Encodes and decodes the messages of one direction.

    Parameters
    ----------
    *kinds : dataclass types
        All that may be said. Their fields are text, numbers, paths and dataclasses of these; tuples and
        frozensets of one kind of them; dicts by text; or None instead of one of them.

    Raises
    ------
    TypeError
        A field has another type.
    """

    def __init__(self, *kinds: type[Message]) -> None:
        self._readers = {kind.__name__: _reader(kind) for kind in kinds}

    def encode(self, message: Message) -> bytes:
        """Return a message as JSON; what a file name holds beside UTF-8 stays as it is."""
        return _encode([type(message).__name__, message]).encode("utf-8", "surrogateescape")

    def decode(self, text: bytes) -> Message:
        """Return the message that JSON holds.

        Raises
        ------
        ValueError
            It is none of these.
        """
        try:
            name, values = json.loads(text.decode("utf-8", "surrogateescape"))
            message: Message = self._readers[name](values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a message: {type(error).__name__}: {error}") from error
        return message


def _plain(value: object) -> Any:
    """Return what JSON can hold of a value that it does not know."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset):
        return sorted(value)
    return vars(value)


_encode = json.JSONEncoder(ensure_ascii=False, default=_plain).encode


def _reader(hint: Any) -> Reader:
    origin, arguments = get_origin(hint), get_args(hint)
    reader: Reader | None = None
    if hint in {str, int, bool}:
        reader = partial(_checked, hint)
    elif hint is float:
        reader = _read_float
    elif hint is Path:
        reader = _read_path
    elif isinstance(hint, type) and is_dataclass(hint):
        types = get_type_hints(hint)
        reader = partial(_read_dataclass, hint, {one.name: _reader(types[one.name]) for one in fields(hint)})
    elif origin in {UnionType, Union} and len(arguments) == 2 and arguments[1] is NoneType:
        reader = partial(_read_optional, _reader(arguments[0]))
    elif origin is tuple and arguments[1:] == (...,):
        reader = partial(_read_series, tuple, _reader(arguments[0]))
    elif origin is frozenset:
        reader = partial(_read_series, frozenset, _reader(arguments[0]))
    elif origin is dict and arguments[0] is str:
        reader = partial(_read_dict, _reader(arguments[1]))
    if reader is None:
        raise TypeError(f"{hint}: no type for a field of a message")
    return reader


def _checked(kind: type[Value], value: Any) -> Value:
    if not isinstance(value, kind):
        raise TypeError(f"{type(value).__name__} in place of {kind.__name__}")
    return value


def _read_float(value: Any) -> float:
    return float(value if isinstance(value, int) else _checked(float, value))


def _read_path(value: Any) -> Path:
    return Path(_checked(str, value))


def _read_dataclass(kind: Callable[..., Value], readers: dict[str, Reader], value: Any) -> Value:
    return kind(**{name: read(value[name]) for name, read in readers.items()})


def _read_optional(read: Reader, value: Any) -> Any:
    return None if value is None else read(value)


def _read_series(kind: Callable[[Any], Value], read: Reader, value: Any) -> Value:
    return kind(map(read, _checked(list, value)))


def _read_dict(read: Reader, value: Any) -> dict[str, Any]:
    return {name: read(one) for name, one in _checked(dict, value).items()}
