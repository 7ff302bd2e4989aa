"""The tables of the configuration by their own account: the model of a table, the kind and the limits of a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

LIMIT_WORDS = {Gt: "above", Ge: "at least", Lt: "below", Le: "at most"}


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a table by the keys that stand in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def model_of(location: Sequence[str | int], settings: type[BaseModel]) -> type[BaseModel] | None:
    """Return the model of the table at a location, of a list of tables that of each; None where there is no table."""
    model: type[BaseModel] = settings
    for part in location:
        if isinstance(part, int):
            continue
        field = fields_of(model).get(part)
        models = [kind for kind in _kinds(field.annotation) if _is_model(kind)] if field else []
        if not models:
            return None
        model = models[0]
    return model


def field_of(location: Sequence[str | int], settings: type[BaseModel]) -> FieldInfo | None:
    """Return the field of the key at a location; None where there is none."""
    named = [part for part in location if isinstance(part, str)]
    if not named or (model := model_of(named[:-1], settings)) is None:
        return None
    return fields_of(model).get(named[-1])


def is_structured(annotation: Any) -> bool:
    """Tell whether a key holds a table or a list."""
    return is_list(annotation) or any(_is_model(kind) for kind in _kinds(annotation))


def is_list(annotation: Any) -> bool:
    """Tell whether a key holds a list."""
    return tuple in _kinds(annotation)


def is_number(annotation: Any) -> bool:
    """Tell whether a key holds a number."""
    kinds = set(_kinds(annotation))
    return bool(kinds & {int, float}) and bool not in kinds


def kind_in_words(field: FieldInfo) -> str:
    """Return what stands behind a key, as ``a whole number from 0 to 65535``."""
    kinds = list(_kinds(field.annotation))
    for kind, words in (
        (tuple, "a list, in brackets"),
        (bool, "true or false"),
        (int, f"a whole number{_limits(field)}"),
        (float, f"a number{_limits(field)}"),
        (Path, "a path, in quotes"),
        (str, "text, in quotes"),
    ):
        if kind in kinds:
            return words
    return "a table, with a line for each key below it"


def _limits(field: FieldInfo) -> str:
    limits = {
        type(bound): getattr(bound, type(bound).__name__.lower())
        for bound in _bounds([*field.metadata, field.annotation])
    }
    if Ge in limits and Le in limits:
        return f" from {_plain(limits[Ge])} to {_plain(limits[Le])}"
    words = [f"{word} {_plain(limits[kind])}" for kind, word in LIMIT_WORDS.items() if kind in limits]
    return ", " + ", ".join(words) if words else ""


def _plain(number: Any) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _bounds(parts: Sequence[Any]) -> Iterator[Any]:
    """Give the limits that stand in annotations, however deep."""
    for part in parts:
        if isinstance(part, Gt | Ge | Lt | Le):
            yield part
        else:
            yield from _bounds([*getattr(part, "metadata", ()), *get_args(part)])


def _kinds(annotation: Any) -> Iterator[Any]:
    """Give the types of an annotation: of a union or Annotated those within, of a list itself and those within."""
    arguments = get_args(annotation)
    origin = getattr(annotation, "__origin__", annotation)
    if origin is tuple:
        yield tuple
    if isinstance(annotation, type) and not arguments:
        yield annotation
    for argument in arguments:
        yield from _kinds(argument)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
