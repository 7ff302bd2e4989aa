"""Probes of ``dicom-node check``: one verdict a line, each with the way out."""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import redis
from pydicom.uid import generate_uid

from dicom_node.config.sections import Destination
from dicom_node.config.settings import Settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.c_echo import echo
from dicom_node.deliver.c_find import FindBrokenError, FindRefusedError, c_find_patients
from dicom_node.deliver.commitment_scu import offer
from dicom_node.deliver.patient_check import jobs_of_other_patients
from dicom_node.errors import BrokerError, NodeError, SpoolError
from dicom_node.jobs.dispatch import Dispatcher, connect, redacted
from dicom_node.jobs.known_workers import UnservedQueue
from dicom_node.jobs.live_workers import LiveWorker
from dicom_node.jobs.queue_depths import queue_depths
from dicom_node.jobs.retention_reasons import Reason, survey
from dicom_node.jobs.store import Store
from dicom_node.jobs.why import STATE_NAME
from dicom_node.node.embedded_broker import read_url
from dicom_node.priors.probe import probe_archive
from dicom_node.spool.spool import Spool
from dicom_node.tls import ServerTls

EVERY_STUDY = 2
"""So many studies that all differ from a destination's are no mix-up of single patients."""


@dataclass(frozen=True)
class Verdict:
    """One thing that was looked at."""

    ok: bool
    what: str
    result: str


Look = Callable[[], str]


def check_node(settings: Settings, extra: Iterable[tuple[str, Look]] = ()) -> Iterator[Verdict]:
    """Look at everything that the node needs, one after the other.

    Parameters
    ----------
    settings : Settings
        A configuration that could be read.
    extra : iterable of (str, callable)
        Further things to look at; the callable returns what is well, or raises what is not.
    """
    looks: list[tuple[str, Look]] = [
        ("data folder", lambda: _data_folder(settings)),
        ("kept", lambda: _kept(settings)),
        ("broker", lambda: _broker(settings)),
        ("workers", lambda: _workers(settings)),
        *extra,
    ]
    if (tls := ServerTls.of(settings.accept.tls)) is not None:
        looks.append(("[accept] tls", lambda: _server_tls(tls)))
    for destination in settings.destination:
        address = Address.of(destination)
        ask = partial(_destination, settings, destination, address)
        looks.append((f"destination {destination.name}", ask))
    if settings.priors.from_:
        looks.append(("[priors]", lambda: probe_archive(settings)))
    for what, look in looks:
        try:
            yield Verdict(True, what, look())
        except (NodeError, OSError, RuntimeError, ValueError) as error:
            yield Verdict(False, what, str(error))
    if not settings.destination:
        yield Verdict(True, "destination", "none: results stay in the data folder")


def _data_folder(settings: Settings) -> str:
    folder = settings.spool
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise SpoolError(f"{existing} is a file, not a folder: choose another [node] data or [worker] spool")
    try:
        with TemporaryDirectory(dir=existing, prefix=".check-"):
            usage = shutil.disk_usage(existing)
    except OSError as error:
        raise SpoolError(
            f"{existing} can't be written by this user ({error.strerror}): "
            "choose another [node] data or [worker] spool"
        ) from error
    if existing == folder and folder.stat().st_mode & stat.S_IRWXO:
        raise NodeError(f"{folder} is open to every user of this machine: chmod 700 {folder}")
    share = usage.used / max(1, usage.used + usage.free)
    if share > settings.storage.high_water:
        raise NodeError(
            f"the disk of {folder} is {share:.0%} full, over [storage] high_water: C-STORE is answered A700"
        )
    return f"{folder}, {usage.free / 1e9:.0f} GB free"


NAMED = 8
"""So many series or jobs with the same way out are named."""

WAYS_OUT = {
    Reason.HELD: "dicom-node release {id}",
    Reason.JOB_HELD: "dicom-node release {id}",
    Reason.UNDELIVERED: "dicom-node why {id}, then retry",
    Reason.UNPROVEN: 'dicom-node why {id}; confirm = "none" does without',
    Reason.NOWHERE: "set a [[destination]], then dicom-node retry {id}",
}


def _kept(settings: Settings) -> str:
    """Tell what the data folder holds, and why it does."""
    path = settings.node.data / STATE_NAME
    if not path.exists():
        return "nothing: no node has worked in the data folder"
    days = settings.storage.keep_days
    store = Store(path)
    try:
        found = survey(store, Spool(settings.node.data), days, settings.proofs, time.time())
    finally:
        store.close()
    if not found.series:
        return "no series"
    oldest = datetime.fromtimestamp(found.oldest_at).astimezone().date()
    lines = [
        f"{found.series} series, {found.images} images, {found.bytes / 1e6:.1f} MB with their results, since {oldest}"
    ]
    for reason in Reason:
        if count := found.reasons[reason]:
            text = str(reason) or "done with, to be removed within the hour"
            if reason is Reason.YOUNG:
                text += f" ({days:g})" if days else " (0: for ever)"
            way_out = WAYS_OUT.get(reason, "")
            lines.append(
                f"{count} {text}{f': {_for_each(way_out, found.examples[reason])}' if way_out else ''}"
            )
    return "\n".join(lines)


def _for_each(way_out: str, identifiers: list[str]) -> str:
    """Return a way out for the first of many, and the IDs of the others."""
    others = identifiers[1:NAMED]
    text = way_out.format(id=identifiers[0])
    if others:
        text += f"; as well {', '.join(others)}"
    more = len(identifiers) - NAMED
    return f"{text} and {more} more, see dicom-node status" if more > 0 else text


def _server_tls(tls: ServerTls) -> str:
    tls.context()
    whom = (
        f"of callers certified by {tls.ca}" if tls.ca else "of anyone, client certificates are not asked for"
    )
    return f"{tls.certificate}, for associations {whom}"


def _broker_url(settings: Settings) -> str:
    """Return where the broker answers; "" for an embedded one while no node runs."""
    settings.broker.check_tls()
    if settings.broker.address != "embedded":
        return settings.broker.address
    try:
        return read_url(settings.node.data / "broker")
    except NodeError:
        return ""


def _broker(settings: Settings) -> str:
    url = _broker_url(settings)
    if not url:
        return "embedded, starts with the node"
    try:
        with connect(url) as client:
            version = client.info("server").get("redis_version", "?")
    except (OSError, redis.RedisError) as error:
        raise BrokerError(f"{redacted(url)} does not answer: {error}") from error
    text = f"{redacted(url)} answers, version {version}"
    if settings.broker.url != "embedded" and urlsplit(url).password is None and urlsplit(url).hostname:
        text += ", and asks for no password: whoever reaches it can have any series analysed"
    return text


def _workers(settings: Settings) -> str:
    """Return a line for each worker that answers; raise on those that can't read this version's messages."""
    url = _broker_url(settings)
    if not url:
        return "none, they need the broker"
    dispatcher = Dispatcher(url, "check")
    try:
        found = dispatcher.workers()
    except BrokerError as error:
        raise BrokerError("not known while the broker does not answer") from error
    finally:
        dispatcher.close()
    wrong = [worker.conflict for worker in found if worker.conflict]
    wrong += _unserved(settings, found)
    if wrong:
        raise NodeError("\n".join(wrong))
    return (
        "\n".join(map(str, found))
        or "none answers: jobs wait for one (those of 0.1.0 work, and never answer)"
    )


def _unserved(settings: Settings, found: Iterable[LiveWorker]) -> list[str]:
    """Return a line for each queue in which jobs wait, and for which none of the workers is."""
    path = settings.node.data / STATE_NAME
    if not path.exists():
        return []
    store = Store(path)
    try:
        depths = queue_depths(store)
    finally:
        store.close()
    served = {queue for worker in found if not worker.conflict for queue in worker.queues}
    return [
        str(UnservedQueue(depth.queue, depth.queued, depth.oldest_at))
        for depth in depths
        if depth.queued and not depth.running and depth.queue not in served
    ]


def _destination(settings: Settings, destination: Destination, address: Address) -> str:
    ae_title = settings.node.ae_title
    text = f"{address} answers C-ECHO in {echo(address, ae_title) * 1000:.0f} ms"
    if address.tls is not None:
        text += " over TLS"
    if destination.confirm == "commitment":
        offer(address, ae_title)
        text += ", and offers storage commitment"
    if destination.verify_patient != "off":
        text += _whose_studies(settings, destination, address)
    return text


def _whose_studies(settings: Settings, destination: Destination, address: Address) -> str:
    """Return what hinders the question whose study a destination has, as further lines; "" where nothing does.

    Raises
    ------
    NodeError
        It can't be asked, and must be.
    """
    try:
        c_find_patients(address, settings.node.ae_title, generate_uid())
    except (FindRefusedError, FindBrokenError) as error:
        text = f"{error}: whose study it has can't be asked before sending; allow queries by {settings.node.ae_title} there"
        if destination.verify_patient == "required":
            raise NodeError(f'{text}, or set verify_patient = "known"') from error
        return f'\n{text} (verify_patient = "off" does without)'
    path = settings.node.data / STATE_NAME
    if not path.exists():
        return ""
    store = Store(path)
    try:
        held, sent = jobs_of_other_patients(store, destination.name)
    finally:
        store.close()
    if sent or held < EVERY_STUDY:
        return ""
    return (
        f"\nevery study there ({held}) is another patient's: it may number patients in another way than the images do; "
        'dicom-node why on one of them, and verify_patient = "off" if that is so'
    )
