"""The rules that choose a pipeline: the form of a ``[[route]]`` table, and the built-in ones.

A rule applies when every condition of ``all`` holds on every image, no condition of ``none`` holds on any
image, and each named group under ``any`` has a condition that holds on every image. The first one decides.

Keys are DICOM keywords, or one of three that are computed: ``Names`` (series description, or the protocol's
name where there is none; sequence names), ``Plane`` (of the slices), ``FieldOfView`` (the longer side, mm).
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from dicom_node.errors import RoutingError
from dicom_node.series.headers import ROUTING_KEYWORDS

PLANES = ("axial", "coronal", "sagittal")
COMPUTED_KEYS = ("Names", "Plane", "FieldOfView")
PLANE_TOLERANCE_DEG = 30.0
_OPERATORS = ("min", "max", "has", "words", "matches")
_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NAME_HINT = "letters, digits, '-', '_' and '.', at most 48"


def _is_no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")  # noqa: TRY004 - pydantic passes no other errors on
    return value


Number = Annotated[float, BeforeValidator(_is_no_bool), Field(allow_inf_nan=False)]


class Condition(BaseModel):
    """Condition on one key. Several operators in one condition must all be met.

    Attributes
    ----------
    min, max : number, optional
        Inclusive limits, in the unit of the tag (ms, mm, ...), for each value of a multi-valued tag.
    has : tuple of str
        At least one value of the tag is one of these, in any case. For ``Plane``: axial, coronal, sagittal.
    words : tuple of str
        At least one occurs in the text as whole words: letters must not run on beyond it, so that ``fs`` is
        found in ``t2_tse_fs_cor`` and ``T2FS`` but not in ``offset``. ``*`` stands for any letters; a blank
        for any separator or none.
    matches : str, optional
        A regular expression found in the text (in any case), for what words can't say.
    within_deg : number
        How far the slice normal may lie from that of the plane (``Plane`` only).
    missing : "fail" or "pass"
        Whether the condition counts as held on an image that lacks the tag, or has it empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: Number | None = None
    max: Number | None = None
    has: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    matches: str | None = None
    within_deg: Number | None = None
    missing: Literal["fail", "pass"] = "fail"

    @field_validator("has", "words", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("matches")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return value

    @field_validator("words")
    @classmethod
    def _are_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for phrase in value:
            if not re.search(r"[^\W_]", phrase):
                raise ValueError(f"{phrase!r} has no letter or digit to look for")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not any(getattr(self, name) not in (None, ()) for name in _OPERATORS):
            raise ValueError("says nothing; give at least one of " + ", ".join(_OPERATORS))
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Rule(BaseModel):
    """One ``[[route]]`` table: the pipeline that a series goes to, and under which conditions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")
    pipeline: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")
    all: dict[str, Condition] = Field(default_factory=dict)
    any: dict[str, dict[str, Condition]] = Field(default_factory=dict)
    none: dict[str, Condition] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _errors_name_the_rule(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Say every fault in words: the rule by its name, the key, what stands there, what is allowed."""
        try:
            rule = handler(values)
        except ValidationError as error:
            faults = "; ".join(_fault(item) for item in error.errors())
            raise ValueError(f"{_title(values)}: {faults}") from error
        faults = "; ".join(rule._key_faults())
        if faults:
            raise ValueError(f"{_title(values)}: {faults}")
        return rule

    def _key_faults(self) -> list[str]:
        sections = [("all", self.all), ("none", self.none)]
        sections += [(f"any.{group}", conditions) for group, conditions in self.any.items()]
        faults = [f"{section} is empty" for section, held in sections[2:] if not held]
        if not self.all and not self.any:
            faults.append("has no conditions under all or any, it would take every series")
        for section, conditions in sections:
            for key, condition in conditions.items():
                fault = _key_fault(key, condition)
                if fault:
                    faults.append(f"{section}.{key}: {fault}")
        return faults


def parse_rules(tables: Sequence[Mapping[str, Any]], source: str = "[[route]]") -> list[Rule]:
    """Read ``[[route]]`` tables that are already plain Python values.

    Raises
    ------
    RoutingError
        A table can't be read as a rule, or two have one name; names the rule, the key and what is allowed.
    """
    rules: list[Rule] = []
    for number, table in enumerate(tables, start=1):
        try:
            rule = Rule.model_validate(table)
        except ValidationError as error:
            reason = "; ".join(str(item.get("ctx", {}).get("error", item["msg"])) for item in error.errors())
            raise RoutingError(f"{source} {number}: {reason}") from error
        if any(rule.name == other.name for other in rules):
            raise RoutingError(f"{source} {number}: the name {rule.name!r} is used twice")
        rules.append(rule)
    return rules


def rules_from_toml(text: str, source: str = "rules") -> list[Rule]:
    """Read rules from the text of a TOML file with ``[[route]]`` tables.

    Raises
    ------
    RoutingError
        Not TOML, something else than ``[[route]]`` tables, or a rule that can't be read.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RoutingError(f"{source}: not valid TOML: {error}") from error
    tables = content.pop("route", [])
    if content or not isinstance(tables, list):
        raise RoutingError(f"{source}: holds {', '.join(content) or '[route]'}; allowed: [[route]] tables")
    return parse_rules(tables, f"{source}: [[route]]")


def built_in_rules() -> list[Rule]:
    """The rules of ``default_rules.toml``, which hold unless the configuration has ``[[route]]`` tables."""
    name = "default_rules.toml"
    return rules_from_toml(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"), name)


def word_pattern(phrases: Sequence[str]) -> re.Pattern[str]:
    """The expression for ``Condition.words``, to be searched in text that `word_text` prepared."""
    return re.compile("|".join(_phrase(phrase) for phrase in phrases))


def word_text(text: str) -> str:
    """Text for `word_pattern`: lower case, with ``FatSat`` taken apart into ``fat sat``."""
    return _CAMEL_HUMP.sub(" ", text).casefold()


def _phrase(phrase: str) -> str:
    separators = r"[\W_]*"
    parts = [part for part in re.split(r"[^\w*]|_", phrase.casefold()) if part]
    body = separators.join(part.replace("*", r"[^\W\d_]*") for part in parts)
    first, last = parts[0][0], parts[-1][-1]
    return _edge(first, "(?<!{})") + body + _edge(last, "(?!{})")


def _edge(character: str, form: str) -> str:
    """Return the pattern of a word's edge: a letter has no letter beside it, a digit no digit; ``*`` has no edge."""
    if character == "*":
        return ""
    return form.format(r"\d" if character.isdigit() else r"[^\W\d_]")


def _title(values: Any) -> str:
    name = values.get("name") if isinstance(values, Mapping) else getattr(values, "name", None)
    return f"rule {name!r}" if name else "rule without a name"


def _fault(item: Any) -> str:
    """One error of pydantic in our words."""
    kind = item["type"]
    path = ".".join(part for part in item["loc"] if isinstance(part, str))
    if kind == "extra_forbidden":
        *above, key = item["loc"]
        allowed = ", ".join(Condition.model_fields if above else Rule.model_fields)
        where = ".".join(str(part) for part in above)
        return f"{where}: unknown key {key!r}; allowed: {allowed}".removeprefix(": ")
    if kind == "missing":
        return f"{path} is missing"
    if kind == "value_error":
        return f"{path}: {item['ctx']['error']}".removeprefix(": ")
    if not path:
        return f"{item['input']!r} is no table"
    allowed = _NAME_HINT
    if kind == "literal_error":
        allowed = item["ctx"]["expected"]
    elif kind in ("model_type", "dict_type"):
        allowed = "a table such as { min = 70 }"
    elif kind in ("float_type", "float_parsing", "finite_number"):
        allowed = "a number"
    elif kind in ("string_type", "tuple_type") and len(item["loc"]) > 1:
        allowed = "text in quotes, or a list of texts"
    return f"{path} = {item['input']!r}: allowed: {allowed}"


def _key_fault(key: str, condition: Condition) -> str | None:
    known = (*COMPUTED_KEYS, *sorted({*ROUTING_KEYWORDS, "PixelSpacing"}))
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"not a key; {hint}allowed: {', '.join(known)}"
    used = {name for name in (*_OPERATORS, "within_deg") if getattr(condition, name) not in (None, ())}
    if key == "Plane":
        wrong = [plane for plane in condition.has if plane not in PLANES]
        if used - {"has", "within_deg"} or not condition.has or wrong:
            return f"allowed: has with {', '.join(PLANES)}, and within_deg"
        return None
    if "within_deg" in used:
        return "within_deg is for Plane only"
    if key == "FieldOfView" and used - {"min", "max"}:
        return "allowed: min and max, in mm"
    return None
