"""Tables of the configuration file, one class each, with their defaults and what is allowed in them."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlencode, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dicom_node.config.hosts import fault_of_host
from dicom_node.config.schema import is_number, kind_in_words
from dicom_node.standard.titles import fault_of_title
from dicom_node.tls import check_files

Port = Annotated[int, Field(ge=0, le=65535)]


def _is_title(value: str) -> str:
    if reason := fault_of_title(value):
        raise ValueError(reason)
    return value


def _is_host(value: str) -> str:
    if reason := fault_of_host(value):
        raise ValueError(reason)
    return value


def _is_given(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("empty: give a path, or leave the key out")
    return value


AETitle = Annotated[str, AfterValidator(_is_title)]
Host = Annotated[str, AfterValidator(_is_host)]
GivenPath = Annotated[Path, BeforeValidator(_is_given)]
Role = Literal["summary", "outline", "seg", "sr", "text-sr", "heatmap"]
SUMMARY_ROLES = frozenset({"summary", "summary-text", "summary-sr", "summary-pdf"})
"""What a destination gets that wants the summary of a study."""
CHANGE_ROLES = {
    "outline": "change-picture",
    "seg": "change-seg",
    "sr": "change-sr",
    "text-sr": "change-text",
}
"""What a destination gets of a comparison with an earlier study: the kinds of object that it wants of a series."""


OPEN_MS = "open-ms"
"""Name of the cohort that ships."""

SHORTEST_PASSWORD = 12


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Section(BaseModel):
    """A table of the file: unknown keys are errors, strings are stripped (AE titles are padded on the wire)."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and is_number(field.annotation):
            raise ValueError(kind_in_words(field))
        return value


class NodeSection(Section):
    """``[node]``: who the node is, where it listens and where it keeps its data."""

    ae_title: AETitle = "LESIONNODE"
    host: Host = "0.0.0.0"
    port: Port = 11112
    data: GivenPath = Path("node-data")
    metrics_port: Port = 0
    metrics_host: Host = "127.0.0.1"
    web_password: SecretStr = SecretStr("")

    @field_validator("web_password")
    @classmethod
    def _is_long(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SHORTEST_PASSWORD:
            raise ValueError(f"{SHORTEST_PASSWORD} characters or more")
        return value

    @model_validator(mode="after")
    def _web_is_guarded(self) -> Self:
        if (
            self.metrics_port
            and not is_loopback(self.metrics_host)
            and not self.web_password.get_secret_value()
        ):
            raise ValueError(
                f"metrics_host = {self.metrics_host!r} can be reached from other machines: set web_password "
                f"({SHORTEST_PASSWORD} characters or more; Prometheus gives it as basic_auth), or leave metrics_host out"
            )
        return self


class Caller(Section):
    """One entry of ``[accept] callers``: an AE title, and the address or network that it may call from."""

    ae_title: AETitle
    address: str = "0.0.0.0/0"

    @field_validator("address")
    @classmethod
    def _is_network(cls, value: str) -> str:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError as error:
            raise ValueError("an IP address or network such as 10.1.2.3 or 10.1.0.0/16") from error
        return value


class SeriesSection(Section):
    """``[series]``: when a series is whole, and what becomes of one with a gap."""

    quiet_s: Annotated[float, Field(ge=0, le=3600)] = 3.0
    incomplete_after_s: Annotated[float, Field(ge=0, le=86400)] = 300.0
    incomplete: Literal["hold", "analyse"] = "hold"


class TlsFiles(Section):
    """``tls = { ... }`` towards a server: PEM files, relative to the configuration's.

    ``ca`` signed its certificate (without: an authority that the system knows); ``certificate`` and ``key`` say who we are.
    """

    ca: GivenPath | None = None
    certificate: GivenPath | None = None
    key: GivenPath | None = None

    @model_validator(mode="after")
    def _key_has_certificate(self) -> Self:
        if self.key is not None and self.certificate is None:
            raise ValueError("a key without its certificate")
        return self

    def anchored(self, base: Path) -> Self:
        """Return it with absolute paths."""
        files = {name: getattr(self, name) for name in ("ca", "certificate", "key")}
        update = {name: (base / path.expanduser()).resolve() for name, path in files.items() if path}
        return self.model_copy(update=update)


class ServerTlsFiles(TlsFiles):
    """``[accept] tls``: our certificate, its key, and, where callers must show certificates too, who signed those."""

    certificate: GivenPath


class AcceptSection(Section):
    """``[accept]``: who may send, how much and how slowly; ``most_per_caller`` says how `max_per_caller` is meant.

    ``processes`` receive beside the node's own; with 0 it receives itself.
    """

    callers: tuple[Caller, ...] = ()
    require_called_ae: bool = True
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 32
    max_per_caller: Annotated[int, Field(ge=0, le=1000)] | None = None
    max_pdu: Annotated[int, Field(ge=4096, le=16 * 1024 * 1024)] = 131072
    max_object_mb: Annotated[float, Field(gt=0, le=1e6)] = 4096.0
    request_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    idle_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    pdu_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    object_timeout_s: Annotated[float, Field(gt=0, le=86400)] = 900.0
    processes: Annotated[int, Field(ge=0, le=64)] = 1
    tls: ServerTlsFiles | None = None

    @property
    def most_per_caller(self) -> int:
        """Associations that one address may have open; 0: as many as there may be in all.

        By default three quarters of all: mostly one PACS forwards everything, and the rest stays free for others.
        """
        if self.max_per_caller is not None:
            return self.max_per_caller
        return max(1, self.max_associations * 3 // 4)


class BrokerSection(Section):
    """``[broker]``: the Redis or Valkey server that carries jobs to the workers."""

    url: str = "embedded"
    tls: TlsFiles | None = None

    @field_validator("url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if value != "embedded" and not value.startswith(("redis://", "rediss://", "redis+socket://")):
            raise ValueError('"embedded", redis://host:6379/0, rediss://... or redis+socket:///path')
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018 - its only purpose is the error
        except ValueError as error:
            raise ValueError("the port is no number from 0 to 65535") from error
        if parts.query:
            raise ValueError("no ?options: the password stands before the host, files in [broker] tls")
        return value

    @model_validator(mode="after")
    def _tls_is_used(self) -> BrokerSection:
        if self.tls is not None and not self.url.startswith("rediss://"):
            raise ValueError("tls needs a url that begins with rediss://")
        return self

    def check_tls(self) -> None:
        """Raise ConfigError when a file of ``tls`` can't be used."""
        if self.tls is not None:
            check_files("[broker]", self.tls.ca, self.tls.certificate, self.tls.key)

    @property
    def address(self) -> str:
        """The URL with what TLS needs, as redis and kombu read it; its certificate is always checked."""
        if not self.url.startswith("rediss://"):
            return self.url
        files = self.tls or TlsFiles()
        options = {"ssl_ca_certs": files.ca, "ssl_certfile": files.certificate, "ssl_keyfile": files.key}
        query = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
        query |= {name: str(path) for name, path in options.items() if path}
        return f"{self.url}?{urlencode(query)}"


class WorkerSection(Section):
    """``[worker]``: what a worker computes on, how long, and where the spool is mounted on its host."""

    device: str = "auto"
    time_limit_s: Annotated[float, Field(ge=1, le=86400)] = 900.0
    spool: str = ""

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError('"auto", "cpu", "cuda" or "cuda:0"')
        return value


class ResultsSection(Section):
    """``[results]``: what is returned, and how much of it."""

    heatmap_slices: Literal["key", "all"] = "key"
    when_unsuitable: Literal["report", "silent"] = "report"
    differential: Literal["text", "coded", "off"] = "text"
    series_number: Annotated[int, Field(ge=1, le=2_000_000_000)] = 9000


class FlairSection(Section):
    """``[flair]``: settings of the FLAIR pipeline; each is part of a job's identity."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    members: Annotated[int, Field(ge=1, le=32)] = 2
    flips: bool = True


class FatsatSection(Section):
    """``[fatsat]``: settings of the FAT-SAT pipeline; each is part of a job's identity.

    Without a threshold that of the model card holds, without a crop `pipelines.fatsat.settings.crop_used` says which.
    """

    members: Annotated[int, Field(ge=1, le=32)] = 32
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    crop: Literal["published", "along-nerve"] | None = None


class SummarySection(Section):
    """``[summary]``: when the page of a study is made.

    When each of its series that a rule wants has its answer and no image has come for ``after_s``, but no later than
    ``at_latest_s`` after its first answer. ``pdf``: as Encapsulated PDF, too.
    """

    enabled: bool = True
    after_s: Annotated[float, Field(ge=0, le=86400)] = 300.0
    at_latest_s: Annotated[float, Field(ge=0, le=86400)] = 1800.0
    pdf: bool = False


class CohortSection(Section):
    """``[cohort]``: what lesion volumes are compared with: a file, "open-ms" for the example that ships, "" for nothing.

    ``build``: `dicom-node models cohort build` may make a file of this node's own studies.
    """

    file: str = ""
    build: bool = False


class StorageSection(Section):
    """``[storage]``: how full the disk may get, and how long series that are done with are kept (0: for ever)."""

    high_water: Annotated[float, Field(gt=0, le=1)] = 0.90
    keep_days: Annotated[float, Field(ge=0)] = 14.0


class DestinationTls(TlsFiles):
    """``[[destination]] tls``; ``name`` must stand in its certificate (without: the host)."""

    name: str = ""


class Destination(Section):
    """``[[destination]]``: a PACS that gets the results, and the proof that it holds them.

    ``verify_patient``: before sending it is asked whose the study is; "required" waits until it has the study.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
    ae_title: AETitle
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)]
    objects: tuple[Role, ...] = ("summary", "outline", "seg", "sr", "text-sr", "heatmap")
    confirm: Literal["c-find", "commitment", "none"] = "c-find"
    verify_patient: Literal["known", "required", "off"] = "known"
    tls: DestinationTls | None = None

    @property
    def roles(self) -> frozenset[str]:
        """Roles of the result objects that it gets."""
        of_study = SUMMARY_ROLES if "summary" in self.objects else frozenset()
        of_change = {change for role, change in CHANGE_ROLES.items() if role in self.objects}
        return frozenset(self.objects) | of_study | of_change


class PriorsSection(Section):
    """``[priors]``: the destination that is asked for earlier studies ("": none are looked for), how, and which are wanted.

    ``retrieve`` is C-MOVE to the node itself, C-GET, or DICOMweb at `web_url`; ``window`` the hours in which it is asked.
    """

    from_: str = Field(default="", alias="from")  # "from" is a word of Python's own
    retrieve: Literal["move", "get", "web"] = "move"
    web_url: str = ""
    web_authorization: SecretStr = SecretStr("")
    max_age_years: Annotated[float, Field(gt=0, le=100)] = 5.0
    min_days: Annotated[int, Field(ge=1, le=36500)] = 28
    max_studies: Annotated[int, Field(ge=1, le=10)] = 2
    wait_s: Annotated[float, Field(ge=1, le=86400)] = 120.0
    concurrent: Annotated[int, Field(ge=1, le=16)] = 1
    window: str = "00:00-24:00"
    ignore_issuer: bool = False
    self_grade: bool = True

    @field_validator("web_url")
    @classmethod
    def _is_web(cls, value: str) -> str:
        if value and not re.match(r"https?://[^\s/@]+(/|$)", value):
            raise ValueError(
                "the base of DICOMweb, as https://pacs.example.org/dicom-web; who we are stands in web_authorization"
            )
        return value.rstrip("/")

    @field_validator("window")
    @classmethod
    def _is_window(cls, value: str) -> str:
        window_minutes(value)
        return value

    @model_validator(mode="after")
    def _web_has_url(self) -> Self:
        if self.retrieve == "web" and not self.web_url:
            raise ValueError('retrieve = "web" needs web_url, as https://pacs.example.org/dicom-web')
        return self


def window_minutes(value: str) -> tuple[int, int]:
    """Return the begin and the end of hours of the day, in minutes since midnight; they may span it.

    Raises
    ------
    ValueError
        It is none.
    """
    found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", value)
    if found is not None:
        hours = [int(part) for part in found.groups()]
        begin, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
        if max(hours[1], hours[3]) < 60 and max(begin, end) <= 24 * 60 and begin != end:
            return begin, end
    raise ValueError("hours of the day, as 18:00-06:00 or 00:00-24:00")
