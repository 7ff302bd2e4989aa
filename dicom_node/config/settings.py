"""Configuration: one TOML file, every key with a default, any key overridden from the environment.

``DICOM_NODE__SECTION__KEY`` sets ``[section] key``; lists are written as JSON. A value of the environment wins over the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from dicom_node.config.environment import ENV_PREFIX, check_environment
from dicom_node.config.mistakes import explain
from dicom_node.config.sections import (
    OPEN_MS,
    AcceptSection,
    BrokerSection,
    CohortSection,
    Destination,
    FatsatSection,
    FlairSection,
    NodeSection,
    PriorsSection,
    ResultsSection,
    SeriesSection,
    StorageSection,
    SummarySection,
    WorkerSection,
)
from dicom_node.errors import ConfigError
from dicom_node.routing.rules import Rule
from pipelines.types import PipelineInfo


class Settings(BaseSettings):
    """The whole configuration, read once at the start."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, case_sensitive=False
    )

    node: NodeSection = NodeSection()
    accept: AcceptSection = AcceptSection()
    series: SeriesSection = SeriesSection()
    broker: BrokerSection = BrokerSection()
    worker: WorkerSection = WorkerSection()
    results: ResultsSection = ResultsSection()
    flair: FlairSection = FlairSection()
    fatsat: FatsatSection = FatsatSection()
    priors: PriorsSection = PriorsSection()
    summary: SummarySection = SummarySection()
    cohort: CohortSection = CohortSection()
    storage: StorageSection = StorageSection()
    destination: tuple[Destination, ...] = ()
    route: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        for table, names in (
            ("destination", [d.name for d in self.destination]),
            ("route", [r.name for r in self.route]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"[[{table}]] name {twice[0]!r} is used twice")
        return self

    @model_validator(mode="after")
    def _priors_have_source(self) -> Settings:
        names = [one.name for one in self.destination]
        if self.priors.from_ and self.priors.from_ not in names:
            known = ", ".join(names) or "none"
            raise ValueError(
                f"[priors] from = {self.priors.from_!r}: no [[destination]] has that name; there are: {known}"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment before the file, whose content comes in as the init arguments."""
        return env_settings, init_settings

    @property
    def spool(self) -> Path:
        """The data folder as this host sees it."""
        return Path(self.worker.spool) if self.worker.spool else self.node.data

    @property
    def proofs(self) -> dict[str, bool]:
        """Destinations of results, each with the word whether a proof is wanted from there."""
        return {one.name: one.confirm != "none" for one in self.destination}

    def configured(self, installed: Mapping[str, PipelineInfo]) -> dict[str, PipelineInfo]:
        """Return the pipelines with the settings that the file or the environment gives them."""
        given = {
            "flair": self.flair.model_dump(exclude_unset=True),
            "fatsat": self.fatsat.model_dump(exclude_unset=True),
        }
        return {
            name: replace(info, default_settings={**info.default_settings, **given.get(name, {})})
            for name, info in installed.items()
        }


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    path : Path, optional
        The TOML file; without it the defaults and the environment hold. Relative ``[node] data`` and ``[worker] spool`` are
        taken from the file's folder.
    overrides : mapping, optional
        Tables that replace those of the file, key by key (tests, ``demo``).

    Raises
    ------
    ConfigError
        The file can't be read, or a key or value is not allowed: names each, its value and what is allowed.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(
                path.read_text(encoding="utf-8-sig")
            )  # some editors write a byte order mark
        except OSError as error:
            raise ConfigError(
                f"{path}: can't be read: {error.strerror}. Give the file with --config FILE"
            ) from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: not text in UTF-8: save it so") from error
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
    for section, table in (overrides or {}).items():
        values[section] = {**values.get(section, {}), **table} if isinstance(table, Mapping) else table
    check_environment(Settings)
    source = str(path) if path else "configuration"
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(explain(error, Settings, values, source)) from error
    except SettingsError as error:
        raise ConfigError(f"environment: {ENV_PREFIX}SECTION__KEY can't be read") from error
    except (ValueError, OSError) as error:
        raise ConfigError(f"{source}: {error}") from error
    return _anchored(settings, path.parent if path else Path.cwd())


def check_routes(settings: Settings, pipelines: Collection[str]) -> None:
    """Raise ConfigError when a ``[[route]]`` leads to a pipeline that this version does not have."""
    for rule in settings.route:
        if rule.pipeline not in pipelines:
            raise ConfigError(
                f"[[route]] rule {rule.name!r}: pipeline = {rule.pipeline!r}: there is none; allowed: {', '.join(pipelines)}"
            )


def _anchored(settings: Settings, base: Path) -> Settings:
    node = settings.node.model_copy(update={"data": (base / settings.node.data.expanduser()).resolve()})
    worker = settings.worker
    if worker.spool:
        worker = worker.model_copy(update={"spool": str((base / Path(worker.spool).expanduser()).resolve())})
    broker = settings.broker
    if broker.tls is not None:
        broker = broker.model_copy(update={"tls": broker.tls.anchored(base)})
    accept = settings.accept
    if accept.tls is not None:
        accept = accept.model_copy(update={"tls": accept.tls.anchored(base)})
    destinations = tuple(
        one.model_copy(update={"tls": one.tls.anchored(base)}) if one.tls is not None else one
        for one in settings.destination
    )
    cohort = settings.cohort
    if cohort.file not in ("", OPEN_MS):
        cohort = cohort.model_copy(update={"file": str((base / Path(cohort.file).expanduser()).resolve())})
    update = {
        "node": node,
        "worker": worker,
        "accept": accept,
        "broker": broker,
        "cohort": cohort,
        "destination": destinations,
    }
    return settings.model_copy(update=update)
