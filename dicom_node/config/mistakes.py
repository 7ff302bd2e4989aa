"""Mistakes in a configuration, each in a line for the person who wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from dicom_node.config.environment import given_by, keys_of, variable_of
from dicom_node.config.schema import field_of, fields_of, kind_in_words, model_of

LISTS_OF_TABLES = ("destination", "route")
NAMES = ("name", "ae_title")
"""Keys by which an entry of a list is called."""
SECRETS = ("password", "authorization")
"""What stands in the names of keys whose values are not shown."""

Location = Sequence[str | int]


def explain(error: ValidationError, settings: type[BaseModel], given: Mapping[str, Any], source: str) -> str:
    """Return all mistakes in one line: where each was written, ``[section] key = value``, and what is allowed.

    Parameters
    ----------
    error : ValidationError
        Of the whole configuration.
    settings : type
        Its model.
    given : mapping
        What the file holds.
    source : str
        What the file is called.
    """
    by_source: dict[str, list[str]] = {}
    for item in error.errors():
        variable = variable_of(item["loc"])
        content = _nested(variable, given_by(variable)) if variable else given
        line = _mistake(item, settings, content)
        by_source.setdefault(f"environment {variable}" if variable else source, []).append(line)
    return "; ".join(f"{where}: {'; '.join(lines)}" for where, lines in by_source.items())


def _nested(variable: str, value: Any) -> dict[str, Any]:
    """Return what a variable sets as tables within tables."""
    for key in reversed(keys_of(variable)):
        value = {key: value}
    return dict(value)


def _mistake(item: Any, settings: type[BaseModel], given: Mapping[str, Any]) -> str:
    location = list(item["loc"])
    key = _key_path(location, given)
    if item["type"] == "extra_forbidden":
        model = model_of(location[:-1], settings)
        return f"unknown key {key}" + (f"; allowed: {', '.join(fields_of(model))}" if model else "")
    if item["type"] == "missing":
        return f"{key} is missing"
    if not location:
        return _reason(item, location, settings)
    found = item["input"]
    value = "" if isinstance(found, (dict, list, tuple, BaseModel)) else f" = {found!r}"
    if isinstance(found, bool):
        value = value.lower()  # as TOML writes it
    if any(secret in str(location[-1]) for secret in SECRETS):
        value = ""
    value = re.sub(r"//.*@", "//***@", value)  # a password in a URL
    return f"{key}{value}: {_reason(item, location, settings)}"


def _reason(item: Any, location: Location, settings: type[BaseModel]) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context.get("error", item["msg"]))
    if item["type"] == "literal_error":
        return f"allowed: {context['expected']}"
    if item["type"] == "string_pattern_mismatch":
        return "a name of letters, digits, '-', '_' and '.', at most 32"
    if item["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return "a table, with a line for each key below it"
    if item["type"] == "tuple_type" and len(location) == 1 and location[0] in LISTS_OF_TABLES:
        return f"tables, each below a line [[{location[0]}]]"
    field = field_of(location, settings)
    return kind_in_words(field) if field else "not allowed here"


def _key_path(location: Location, given: Mapping[str, Any]) -> str:
    """Return ``[section] key``; an entry of a list is called by its name or title, one without by its number from 1."""
    if not location:
        return "configuration"
    section, *rest = location
    words = [f"[[{section}]]" if section in LISTS_OF_TABLES else f"[{section}]"]
    value: Any = given.get(str(section))
    keys: list[str] = []
    for part in rest:
        if isinstance(part, str):
            keys.append(part)
            value = value.get(part) if isinstance(value, Mapping) else None
            continue
        value = value[part] if isinstance(value, list | tuple) and part < len(value) else None
        entry = _entry(value, part)
        if section == "route" and isinstance(value, Mapping) and value.get("name"):
            entry = ""  # a rule's mistakes begin with its name
        words += [".".join(keys), entry] if entry else []
        keys = keys if not entry else []
    return " ".join(word for word in (*words, ".".join(keys)) if word)


def _entry(value: Any, index: int) -> str:
    """Return what an entry of a list is called; "" for a plain value, which the message shows."""
    if not isinstance(value, Mapping):
        return ""
    names = [value[key] for key in NAMES if isinstance(value.get(key), str) and value[key].strip()]
    return repr(names[0]) if names else f"number {index + 1}"
