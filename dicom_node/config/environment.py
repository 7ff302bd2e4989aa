"""Variables of the environment that set keys: ``DICOM_NODE__SECTION__KEY``, lists and tables as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from dicom_node.config.schema import field_of, fields_of, is_list, is_structured, model_of
from dicom_node.errors import ConfigError

ENV_PREFIX = "DICOM_NODE__"


def check_environment(settings: type[BaseModel]) -> None:
    """Refuse a variable that no section has, and one whose list or table is not written as JSON.

    Parameters
    ----------
    settings : type
        The model of the whole configuration.

    Raises
    ------
    ConfigError
        Names the variable and what is allowed.
    """
    for name, keys in _variables():
        if keys[0] not in settings.model_fields:
            sections = ", ".join(settings.model_fields)
            raise ConfigError(f"environment {name}: no section {keys[0]!r}; there are {sections}")
        for depth in range(1, len(keys)):
            field = field_of(keys[:depth], settings)
            if field is not None and (is_list(field.annotation) or not is_structured(field.annotation)):
                whole = ENV_PREFIX + "__".join(keys[:depth]).upper()
                raise ConfigError(
                    f"environment {name}: nothing stands below {whole}; a list is written there as JSON"
                )
        model = model_of(keys[:-1], settings)
        if model is None or keys[-1] not in fields_of(model):
            continue  # told as an unknown key, with those that there are
        if is_structured(fields_of(model)[keys[-1]].annotation):
            try:
                json.loads(os.environ[name])
            except ValueError as error:
                raise ConfigError(
                    f"environment {name}: a list or a table is written as JSON there, and this is none"
                ) from error


def variable_of(location: Sequence[str | int]) -> str:
    """Return the variable that sets the key at a location, or all of a table or list above it; "" when none does."""
    path = [str(part).lower() for part in location]
    for name, keys in _variables():
        if path[: len(keys)] == keys:
            return name
    return ""


def given_by(variable: str) -> Any:
    """Return what a variable holds: of JSON its content, else the text."""
    text = os.environ[variable]
    try:
        return json.loads(text)
    except ValueError:
        return text


def keys_of(variable: str) -> list[str]:
    """Return the section and keys that a variable sets."""
    return variable[len(ENV_PREFIX) :].lower().split("__")


def _variables() -> list[tuple[str, list[str]]]:
    return [(name, keys_of(name)) for name in sorted(os.environ) if name.upper().startswith(ENV_PREFIX)]
