"""The node: everything between the network and the workers, wired together, started and stopped in order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from dicom_node import __version__
from dicom_node.config.settings import Settings
from dicom_node.deliver.address import Address
from dicom_node.deliver.commitment_reporter import CommitmentReporter
from dicom_node.deliver.outbox import Outbox
from dicom_node.errors import NodeError, NotFoundError, ResultError, SpoolError, StateError
from dicom_node.intake.intake import Intake
from dicom_node.intake.parser import Parser, headers_of
from dicom_node.jobs.comparison_job import CHANGE, FOLLOWS
from dicom_node.jobs.comparison_job import TITLE as CHANGE_TITLE
from dicom_node.jobs.dispatch import Dispatcher, load_celery, redacted
from dicom_node.jobs.failure_report import publish_failure
from dicom_node.jobs.former_identity import is_of_former_identity
from dicom_node.jobs.known_workers import UnservedQueue
from dicom_node.jobs.message import JobMessage, ObjectUids, ResultSettings
from dicom_node.jobs.rebuild import rebuild
from dicom_node.jobs.reconcile import Reconciler
from dicom_node.jobs.retention import Removed, Retention
from dicom_node.jobs.retention_reasons import DAY_S
from dicom_node.jobs.schema import JobRow
from dicom_node.jobs.states import JobState
from dicom_node.jobs.store import Store
from dicom_node.jobs.summary_job import SUMMARY
from dicom_node.jobs.ways_out import of_queue
from dicom_node.jobs.why import STATE_NAME
from dicom_node.jobs.worker_watch import WorkerWatch
from dicom_node.node.control_socket import ControlServer
from dicom_node.node.steering import Steering
from dicom_node.overview.gauges import COUNTED_STATES, OverviewGauges
from dicom_node.overview.pages import Pages
from dicom_node.overview.web import WebServer
from dicom_node.priors.comparisons import Comparisons
from dicom_node.priors.service import Priors
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.commitment_scp import CommitmentPolicy
from dicom_node.receive.limits import Limits
from dicom_node.receive.receiver_processes import Receivers
from dicom_node.results.manifest import Manifest
from dicom_node.spool.durable import write_durably
from dicom_node.spool.spool import Spool
from dicom_node.study.state import PARTS
from dicom_node.study.summariser import TITLE as SUMMARY_TITLE
from dicom_node.study.summariser import Summariser
from dicom_node.tls import ServerTls
from dicom_node.worklog.metrics import Metrics
from dicom_node.worklog.writer import Worklog
from pipelines.comparison import CHANGES
from pipelines.types import PipelineInfo

LEASE_S = 30.0
MAX_RUNS = 3
FORMER = "its images were corrected since then, and name another patient or study"
REPORTS = frozenset({"sr", "text-sr", "change-sr", "change-text", "summary-sr", "summary-text"})
"""Roles of the documents that a later result names as those that it replaces."""
COUNTED_CHANGES = (*CHANGES, "possible")
OUTCOMES = {"findings": "findings", "none": "no findings", "unsuitable": "not suitable"}


class Node:
    """One node with its data folder.

    Parameters
    ----------
    settings : Settings
        The configuration.
    installed : mapping of str to PipelineInfo
        What the workers can run.
    broker_url : str
        Where the broker answers (of the embedded one, too).

    Raises
    ------
    SpoolError
        The data folder can't be used, or another node uses it.
    """

    def __init__(self, settings: Settings, installed: Mapping[str, PipelineInfo], broker_url: str) -> None:
        self.settings = settings
        self.broker_url = broker_url
        self.spool = Spool(settings.node.data, settings.storage.high_water)
        self._lock = _lock_folder(self.spool.root)
        self.node_id = _node_id(self.spool.root)
        self.worklog = Worklog(self.spool.root)
        self.parser = Parser(self.spool)
        self.store = self._open_store()
        self.dispatcher = Dispatcher(broker_url, self.node_id)
        self.reconciler = Reconciler(
            self.store,
            self.spool,
            self.dispatcher,
            message_of=self.message_of,
            events=self,
            lease_s=LEASE_S,
            max_runs=MAX_RUNS,
            time_limit_s=settings.worker.time_limit_s,
        )
        self.worker_watch = WorkerWatch(
            Dispatcher(broker_url, self.node_id),
            self.store,
            self.spool.root,
            on_unserved=self._on_unserved,
            on_served=self._on_served,
        )
        self.outbox = Outbox(
            self.store,
            self.spool,
            settings.destination,
            ae_title=settings.node.ae_title,
            worklog=self.worklog,
            on_settled=self._on_settled,
        )
        keep_s = settings.storage.keep_days * DAY_S
        self.commitments = CommitmentReporter(
            self.spool,
            keep_s,
            map(Address.of, settings.destination),
            ae_title=settings.node.ae_title,
            worklog=self.worklog,
            reported=self.outbox.commitment_reported,
        )
        self.intake = Intake(
            settings,
            self.spool,
            self.store,
            self.worklog,
            installed,
            jobs=self.reconciler,
            commitments=self.commitments,
            reader=self.parser,
            on_prior=self._on_prior,
        )
        self.comparisons = Comparisons(
            settings.priors,
            self.spool,
            self.store,
            self.worklog,
            installed,
            self.reconciler,
            self.intake.guard,
        )
        self.priors = self._priors() if settings.priors.from_ else None
        self.retention = Retention(
            self.store,
            self.spool,
            settings.storage.keep_days,
            on_removed=self._on_removed,
            guard=self.intake.guard,
            destinations=settings.proofs,
        )
        self.scp = self._receivers(CommitmentPolicy(keep_s, self.commitments.known))
        self.summariser = Summariser(
            self.store,
            self.spool,
            self.worklog,
            settings.summary,
            context_of=lambda job: self.message_of(job).context(SUMMARY_TITLE),
            title_of=self._title_of,
            again=self.reconciler.again,
            on_published=self.reconciler.wake,
            compares=self.priors is not None,
        )
        self.metrics = self._metrics()
        self.pages = Pages(
            self.store,
            self.spool,
            settings,
            workers=lambda: self.worker_watch.known,
            troubles=self.own_troubles,
            pipelines=installed,
        )
        self.metrics.register(OverviewGauges(self.pages.overview))
        self.web = WebServer(
            self.pages.answer,
            self.metrics.app,
            self.troubles,
            password=settings.node.web_password.get_secret_value(),
        )
        self.steering = Steering(self.store, self.worklog, self.intake, self.reconciler, self.outbox)
        self.control = ControlServer(self.spool.root, self._answer)

    def _receivers(self, commitment: CommitmentPolicy) -> Receivers:
        settings, accept = self.settings, self.settings.accept
        return Receivers(
            host=settings.node.host,
            port=settings.node.port,
            ae_title=settings.node.ae_title,
            spool=self.spool,
            gate=Gate(
                Admission(accept.callers, require_called_ae=accept.require_called_ae),
                settings.node.ae_title,
                max_associations=accept.max_associations,
                max_per_caller=accept.most_per_caller,
            ),
            limits=Limits(
                request_s=accept.request_timeout_s,
                idle_s=accept.idle_timeout_s,
                pdu_s=accept.pdu_timeout_s,
                object_s=accept.object_timeout_s,
                max_pdu=accept.max_pdu,
                max_object=round(accept.max_object_mb * 1e6),
            ),
            tls=ServerTls.of(accept.tls),
            events=self.intake,
            processes=accept.processes,
            commitment=commitment,
        )

    def _priors(self) -> Priors:
        return Priors(
            self.settings,
            self.spool,
            self.store,
            self.worklog,
            self.intake,
            compare=self.comparisons.begin,
            on_ended=self._notice_studies,
        )

    def _metrics(self) -> Metrics:
        """Return the numbers that the node counts itself; those of the overview are added to them."""
        metrics = Metrics()
        self.worklog.subscribe(metrics.count)
        metrics.gauge("inbox_files", "Files received and not yet filed", lambda: len(self.spool.waiting()))
        for state in COUNTED_STATES:
            name = state.replace("-", "_")
            metrics.gauge(f"jobs_{name}", f"Jobs that are {state}", partial(self._count_jobs, state))
        return metrics

    def start(self) -> None:
        """Start everything, the listening socket last: what is accepted can be worked on.

        Raises
        ------
        PortTakenError, AddressError
            The node can't listen where it should.
        """
        self._resume_deliveries()
        self.outbox.start()
        self.reconciler.start()
        if self.settings.summary.enabled:
            self.summariser.start()
        self.worker_watch.start()
        self.intake.start()
        self.commitments.start()
        self.scp.start()
        self.retention.start()
        if self.priors is not None:
            self.priors.start()
        if self.settings.node.metrics_port:
            self.web.start(self.settings.node.metrics_port, self.settings.node.metrics_host)
        self.control.start()
        # The first job need not wait for it, nor need the first caller.
        threading.Thread(target=load_celery, name="load-celery", daemon=True).start()
        self.worklog.write(
            "node-started",
            ae_title=self.settings.node.ae_title,
            host=self.settings.node.host,
            port=self.scp.port,
            broker=redacted(self.broker_url),
            version=__version__,
        )
        if not self.settings.accept.callers:
            self.worklog.write("warning", name="accept", reason="[accept] callers is empty: anyone may send")
        if not self.settings.destination:
            self.worklog.write(
                "warning", name="destination", reason="no [[destination]]: results stay in the data folder"
            )

    def stop(self, reason: str = "") -> None:
        """Stop everything, the listening socket first; nothing acknowledged is lost by it."""
        self.scp.stop()
        self.control.stop()
        self.web.stop()
        if self.priors is not None:
            self.priors.stop()
        self.intake.stop()
        self.commitments.stop()
        self.retention.stop()
        self.worker_watch.stop()
        self.summariser.stop()
        self.reconciler.stop()
        self.outbox.stop()
        self.dispatcher.close()
        self.worklog.write("node-stopped", ae_title=self.settings.node.ae_title, reason=reason or None)
        self.worklog.close()
        self.store.close()
        os.close(self._lock)

    def troubles(self) -> Iterable[str]:
        """Yield what keeps the node from doing its work, for /healthz."""
        yield from self.scp.troubles()
        try:
            if not self.spool.has_room():
                yield f"the disk is over {self.spool.high_water:.0%} full"
            self.dispatcher.ping()
        except NodeError as error:
            yield str(error)
        yield from self.worker_watch.troubles()

    def own_troubles(self) -> Iterator[str]:
        """Yield what only the node itself knows of, for the overview: it finds the rest in files and the database."""
        yield from self.scp.troubles()
        if self.store.is_damaged:
            yield f"{self.store.path}: damaged; the node makes it again from the data folder"

    def _answer(self, verb: str, text: str, given: Mapping[str, Any]) -> str:
        """Answer a command that runs beside the node."""
        if verb == "troubles":
            return "\n".join(self.own_troubles())
        if verb == "summarise":
            return self._summarise(text)
        answer = self.steering.steer(verb, text, given)
        self.summariser.notice_queued()
        return answer

    def _summarise(self, text: str) -> str:
        """Make the page of the study that a text names."""
        if not self.settings.summary.enabled:
            raise StateError("[summary] enabled is false: no pages are made")
        match = self.store.find(text)
        studies = {series.study_uid for series in match.series}
        if len(studies) != 1:
            raise NotFoundError(f"{text!r} names {len(studies)} studies: give the UID of one")
        return self.summariser.summarise(studies.pop())

    def message_of(self, job: JobRow) -> JobMessage:
        """Return the message that tells a worker all it must know of a job's current run."""
        results = self.settings.results
        return JobMessage(
            node_id=self.node_id,
            job_id=job.id,
            run=job.run,
            pipeline=job.pipeline,
            settings=job.settings,
            images=tuple(job.images),
            results=ResultSettings(
                heatmap_slices=results.heatmap_slices,
                when_unsuitable=results.when_unsuitable,
                differential=results.differential,
                series_number=results.series_number,
            ),
            note=job.note,
            replaces=self._replaced_reports(job),
            created_at=datetime.now().astimezone().replace(microsecond=0),
            examined=self.comparisons.examined(job) if self._is_compared(job) else "",
            prior=self.comparisons.prior_of(job) if job.pipeline == CHANGE else None,
        )

    def _is_compared(self, job: JobRow) -> bool:
        """Tell whether what a job's analysis finds is wanted for comparisons."""
        return job.pipeline == CHANGE or (job.pipeline == FOLLOWS and self.priors is not None)

    # What the reconciler tells (dicom_node.jobs.reconcile.Events)

    def job_queued(self, job: JobRow) -> None:
        """Write that the broker has the job's run."""
        self.worklog.write("queued", job.id, pipeline=job.pipeline, run=job.run, images=len(job.images))

    def job_running(self, job: JobRow, worker: str) -> None:
        """Write which worker has it."""
        self.worklog.write("running", job.id, pipeline=job.pipeline, worker=worker, run=job.run)

    def job_stage(self, job: JobRow, stage: str, seconds: float) -> None:
        """Write how long a stage took."""
        self.worklog.write("stage", job.id, stage=stage, seconds=seconds)

    def job_finished(self, job: JobRow, manifest: Manifest) -> None:
        """Write what was found, and hand the objects to the outbox; the study may be due for its page."""
        if job.pipeline == SUMMARY and manifest.status != "failed":
            self.worklog.write(
                "summarised",
                job.id,
                count=len(manifest.figures.get(PARTS, {})),
                revision=manifest.figures.get("revision") or None,
                seconds=sum(manifest.timings_s.values()),
            )
        elif manifest.status == "failed":
            self.worklog.write("failed", job.id, reason=manifest.reason, run=manifest.run)
        elif job.pipeline == CHANGE:
            self._tell_change(job, manifest)
        else:
            self.worklog.write(
                "analysed",
                job.id,
                outcome=OUTCOMES[manifest.status],
                lesions=manifest.figures.get("lesions"),
                volume_ml=manifest.figures.get("volume_ml"),
                sides=manifest.figures.get("sides"),
                reason=manifest.reason or None,
                seconds=sum(manifest.timings_s.values()),
            )
        self.outbox.add(job, manifest)
        if self.priors is not None:
            self.priors.wake()
        self._notice_studies(job)

    def _tell_change(self, job: JobRow, manifest: Manifest) -> None:
        """Write what has changed since the prior, and take over the identities of the lesions."""
        if manifest.status == "unsuitable":
            self.worklog.write("not-compared", job.id, reason=manifest.reason)
            return
        counts = {name: manifest.figures.get(name) or None for name in COUNTED_CHANGES}
        self.worklog.write(
            "compared",
            job.id,
            **{**counts, "new": manifest.figures.get("new", 0)},
            grade=manifest.figures.get("grade"),
            seconds=sum(manifest.timings_s.values()),
        )
        with contextlib.suppress(
            ResultError
        ):  # the lesions get other numbers in the next comparison, at worst
            self.comparisons.take_tracking(job)

    def _notice_studies(self, job: JobRow) -> None:
        """Have the study of a job looked at, and the one that its images named before they were corrected."""
        series = self.store.series(job.series_uid)
        studies = {series.study_uid} if series is not None else set()
        if job.pipeline == SUMMARY:
            studies = {str(job.settings.get("study", ""))}
        for folder in self.spool.results.glob(f"{job.id}.was*"):
            with contextlib.suppress(ResultError):
                studies |= {item.study_uid for item in Manifest.read(folder).objects}
        for study_uid in studies:
            self.summariser.notice(study_uid)

    def job_lost(self, job: JobRow, reason: str) -> None:
        """Write that a run was lost; the job goes on as the next one."""
        self.worklog.write("run-lost", job.id, run=job.run - 1, reason=reason)
        if job.pipeline == SUMMARY:
            self._notice_studies(job)

    def job_failed(self, job: JobRow, reason: str) -> None:
        """Publish the report of a job whose workers died; of a comparison the page of the study tells."""
        context = self.message_of(job).context(self._title_of(job.pipeline))
        paths = [self.spool.absolute(relative) for relative in job.images]
        reason = f"{reason} ({MAX_RUNS} runs)"
        publish_failure(self.spool.results, paths, context, reason, has_objects=job.pipeline != CHANGE)

    def _title_of(self, pipeline: str) -> str:
        return CHANGE_TITLE if pipeline == CHANGE else self.intake.judge.title_of(pipeline)

    def message_refused(self, reason: str) -> None:
        """Write that a worker can't read the messages of this node."""
        self.worklog.write("warning", name="worker", reason=reason)

    def broker_lost(self, reason: str) -> None:
        """Write that the broker is gone."""
        self.worklog.write("broker-lost", broker=redacted(self.broker_url), reason=reason)

    def broker_back(self) -> None:
        """Write that it is back."""
        self.worklog.write("broker-back", broker=redacted(self.broker_url))

    # What the watch over the workers tells

    def _on_unserved(self, queue: UnservedQueue) -> None:
        self.worklog.write(
            "no-worker",
            pipeline=queue.queue,
            count=queue.jobs,
            waited_s=time.time() - queue.since,
            reason=str(of_queue(queue.queue)),
        )

    def _on_served(self, queue: UnservedQueue) -> None:
        self.worklog.write("worker-back", pipeline=queue.queue, waited_s=max(0.0, time.time() - queue.since))

    # What the intake tells

    def _on_prior(self, series_uid: str) -> None:
        if self.priors is not None:
            self.priors.verdict_told(series_uid)

    # What the outbox tells

    def _on_settled(self, job_id: str, ok: bool) -> None:
        job = self.store.job(job_id)
        if job is None or job.state not in {JobState.DELIVERING, JobState.UNDELIVERED}:
            return
        reason = (
            job.reason if self.settings.destination else "no destination: the results stay in the data folder"
        )
        self.store.move_job(job_id, JobState.DELIVERED if ok else JobState.UNDELIVERED, reason)

    def _on_removed(self, removed: Removed) -> None:
        reason = f"kept for {self.settings.storage.keep_days:g} days after its end"
        self.worklog.write("removed", removed.id, images=removed.images, reason=reason)

    # Start and state

    def _count_jobs(self, state: JobState) -> float:
        return self.store.count_jobs(state)

    def _resume_deliveries(self) -> None:
        for job in self.store.jobs_in(JobState.DELIVERING):
            # Only a database made anew has such jobs: else they were taken back when the correction came.
            if self._is_rebuilt and is_of_former_identity(self.store, self.spool, job):
                self.store.move_job(job.id, JobState.UNDELIVERED, FORMER)
                way_out = f"dicom-node retry {job.id[:8]} analyses and delivers it again"
                self.worklog.write(
                    "warning", job.id, name="results", reason=f"not delivered: {FORMER}; {way_out}"
                )
                continue
            try:
                if job.pipeline == CHANGE:
                    self.comparisons.take_tracking(job)
                self.outbox.add(job, Manifest.read(self.spool.results / job.id))
            except ResultError as error:
                self.worklog.write("warning", job.id, name="results", reason=f"analysed again: {error}")
                self.reconciler.again(job.id, "its results were damaged, and were set aside")
            except NodeError as error:  # one job holds up neither the start nor the others
                self.store.move_job(job.id, JobState.UNDELIVERED, str(error))
                way_out = f"dicom-node retry {job.id[:8]} delivers it again"
                self.worklog.write(
                    "warning", job.id, name="results", reason=f"not delivered: {error}; {way_out}"
                )

    def _replaced_reports(self, job: JobRow) -> tuple[ObjectUids, ...]:
        """Return the reports that this job's reports take the place of."""
        folders = [self.spool.results / job.replaces] if job.replaces else []
        folders += sorted(self.spool.results.glob(f"{job.id}.was*"), key=lambda path: path.stat().st_mtime)[
            -1:
        ]
        for folder in reversed(folders):
            with contextlib.suppress(ResultError):
                return tuple(
                    (o.sop_class_uid, o.sop_instance_uid, o.series_uid, o.study_uid)
                    for o in Manifest.read(folder).objects
                    if o.role in REPORTS
                )
        return ()

    def _open_store(self) -> Store:
        """Open the database, after what the spool holds beyond it has been added to it."""
        path = self.spool.root / STATE_NAME
        found = rebuild(path, self.spool.root, partial(headers_of, self.parser))
        self._is_rebuilt = bool(found.jobs)
        if found.replaced is not None:
            reason = (
                f"of an older version of dicom-node, kept as {found.replaced.name}; made again with {found.images} images and "
                f"{found.jobs} jobs, {found.held} held as before"
            )
            self.worklog.write("warning", name=STATE_NAME, reason=reason)
        elif found.images or found.jobs:
            reason = f"{found.images} images and {found.jobs} jobs of the spool were unknown to the database, and were added"
            self.worklog.write("warning", name=STATE_NAME, reason=reason)
        return Store(path, self.spool.jobs)


def _lock_folder(root: Path) -> int:
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolError(
            f"{root}: another node uses this data folder; stop it, or choose another [node] data"
        ) from None
    return lock


def _node_id(root: Path) -> str:
    """Return the node's random ID, made once: the UIDs of its results derive from it."""
    path = root / "node-id"
    if not path.exists() or not path.read_text().strip():
        write_durably(path, secrets.token_hex(16) + "\n")
    return path.read_text().strip()
