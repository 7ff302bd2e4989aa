"""Mistakes in a configuration, each in a line for the person who wrote it."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel

LISTS_OF_TABLES = ("destination", "route")
SECRETS = {"web_password"}
"""Keys whose values are not said again."""


def explain(item: Any, settings: type[BaseModel]) -> str:
    """Return one error of pydantic as ``[section] key = value: what is allowed``.

    Parameters
    ----------
    item : ErrorDetails
        Of a ValidationError.
    settings : type
        The model of the whole configuration.
    """
    location = list(item["loc"])
    key = _key_path(location)
    if item["type"] == "extra_forbidden":
        return f"unknown key {key}{_known_keys(location[:-1], settings)}"
    if item["type"] == "missing":
        return f"{key} is missing"
    value = "" if isinstance(item["input"], (dict, list, tuple, BaseModel)) else f" = {item['input']!r}"
    if location and location[-1] in SECRETS:
        value = ""
    value = re.sub(r"//.*@", "//***@", value)  # a password in a URL
    return f"{key}{value}: {_reason(item, location)}"


def _reason(item: Any, location: list[str | int]) -> str:
    context = item.get("ctx", {})
    if item["type"] == "value_error":
        return str(context.get("error", item["msg"]))
    if item["type"] == "literal_error":
        return f"allowed: {context['expected']}"
    if item["type"] == "model_type":
        return "a table, with a line for each key below it"
    if item["type"] == "tuple_type":
        is_tables = location[0] in LISTS_OF_TABLES and len(location) == 1
        return f"tables, each below a line [[{location[0]}]]" if is_tables else "a list, in brackets"
    return str(item["msg"][0].lower() + item["msg"][1:])


def _key_path(location: list[str | int]) -> str:
    if not location:
        return "configuration"
    section, *rest = [str(part) for part in location]
    return f"[{section}] {'.'.join(rest)}" if rest else f"[{section}]"


def _known_keys(location: list[str | int], settings: type[BaseModel]) -> str:
    """Return the keys that are allowed where an unknown one stood."""
    model: Any = settings
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type)]
        model = arguments[0] if arguments else annotation
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return ""
    return "; allowed: " + ", ".join(model.model_fields)
