"""The way to Celery: one message for each run, and what the broker holds of them.

The node names tasks and never imports them; celery itself is imported when the first message goes out.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from dicom_node.errors import BrokerError
from dicom_node.jobs.comparison_job import CHANGE
from dicom_node.jobs.live_workers import DESCRIBE, LiveWorker
from dicom_node.jobs.message import JobMessage
from dicom_node.spool.run_folder import run_name

if TYPE_CHECKING:
    from celery import Celery

    from dicom_node.jobs.schema import JobRow

TASK = "dicom_node.analyse"
TIMEOUT_S = 5.0
ANSWER_S = 1.0
VISIBILITY_TIMEOUT_S = 86_400  # Celery's own redelivery, never relied upon: the reconciler is the only one

# Here kombu's Redis transport keeps what a consumer took and did not acknowledge (kombu.transport.redis)
UNACKED_KEY = "unacked"
UNACKED_INDEX_KEY = "unacked_index"

BACKGROUND = frozenset({CHANGE})
"""Queues whose messages a worker takes when there is none in the others that it serves."""
BACKGROUND_PRIORITY = 9
"""Lowest of the steps in which kombu's Redis transport looks, each over all queues, before the next one."""
PRIORITY_MARK = "\x06\x16"  # kombu.transport.redis: Channel.sep

Place = Literal["queue", "taken"]


def load_celery() -> None:
    """Import what sending a message takes, which lasts a second on a busy machine, before there is one to send."""
    import celery.app.amqp  # noqa: PLC0415
    import celery.app.task  # noqa: PLC0415
    import celery.backends.base  # noqa: F401, PLC0415
    import kombu.transport.redis  # noqa: F401, PLC0415


def connect(url: str) -> redis.Redis:
    """Return a client for a broker URL in kombu's spelling (redis://, rediss://, redis+socket:///path)."""
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    try:
        parts = urlsplit(url)
        if parts.scheme == "redis+socket":
            return redis.Redis(unix_socket_path=unquote(parts.path), **options)
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise BrokerError(
            f"not a broker's URL: {redacted(url)} (redis://HOST:PORT/0 or rediss://...)"
        ) from error


def redacted(url: str) -> str:
    """Return a broker's URL without its password and options."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"


def queue_key(queue: str) -> str:
    """Return the key of the list in which the broker has what waits in a queue."""
    return f"{queue}{PRIORITY_MARK}{BACKGROUND_PRIORITY}" if queue in BACKGROUND else queue


class Dispatcher:
    """Puts runs into the queues of their pipelines; safe in one thread at a time.

    Parameters
    ----------
    broker_url : str
        Celery's broker URL.
    node_id : str
        The node that asks, in the messages' headers.
    """

    def __init__(self, broker_url: str, node_id: str) -> None:
        self.broker_url = broker_url
        self._node_id = node_id
        self._app: Celery | None = None
        self._client = connect(broker_url)

    def enqueue(self, job: JobRow, message: JobMessage) -> None:
        """Send a job's current run to the queue of its pipeline.

        Raises
        ------
        BrokerError
            The broker can't be reached or refuses.
        """
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - celery and kombu only once something is sent

        app = self._celery()
        with self._errors(OperationalError, OSError), app.connection_for_write() as connection:
            app.send_task(
                TASK,
                kwargs={"message": message.to_json()},
                task_id=run_name(job.id, job.run),
                queue=job.pipeline,
                priority=BACKGROUND_PRIORITY if job.pipeline in BACKGROUND else 0,
                headers={"node_id": self._node_id},
                connection=connection,
                retry=False,
            )

    def ping(self) -> str:
        """Return the broker's run ID, which is another after each start; BrokerError when it is silent."""
        with self._errors():
            return str(self._client.info("server")["run_id"])

    def workers(self, within_s: float = ANSWER_S) -> list[LiveWorker]:
        """Return the workers that answer within so long, by their names; those of 0.1.0 answer nothing.

        Raises
        ------
        BrokerError
            The broker can't be reached or refuses.
        """
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - as above

        self.ping()
        app = self._celery()
        with self._errors(OperationalError, OSError), app.connection_for_write() as connection:
            answers = app.control.broadcast(DESCRIBE, reply=True, timeout=within_s, connection=connection)
        found = [LiveWorker.from_json(answer) for each in answers or [] for answer in each.values()]
        return sorted((worker for worker in found if worker is not None), key=lambda worker: worker.name)

    def places(self, queue: str) -> dict[str, Place]:
        """Return where the broker has each task of a queue: in it, or taken and not yet acknowledged."""
        with self._errors():
            found: dict[str, Place] = {}
            for raw in self._client.hvals(UNACKED_KEY):
                found[_task_id(_taken_message(raw))] = "taken"
            for raw in self._client.lrange(queue_key(queue), 0, -1):
                found[_task_id(json.loads(raw))] = "queue"
            return found

    def forget(self, job_id: str, queue: str) -> None:
        """Remove every message of a job: those in the queue, and those that a dead worker took along."""
        with self._errors():
            for raw in self._client.lrange(queue_key(queue), 0, -1):
                if _task_id(json.loads(raw)).startswith(f"{job_id}."):
                    self._client.lrem(queue_key(queue), 0, raw)
            for tag, raw in self._client.hgetall(UNACKED_KEY).items():
                if _task_id(_taken_message(raw)).startswith(f"{job_id}."):
                    self._client.hdel(UNACKED_KEY, tag)
                    self._client.zrem(UNACKED_INDEX_KEY, tag)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        if self._app is not None:
            self._app.close()

    def _celery(self) -> Celery:
        if self._app is None:
            from celery import Celery  # noqa: PLC0415 - the node starts without it

            self._app = Celery("dicom_node", broker=self.broker_url, set_as_current=False)
            self._app.conf.update(
                task_serializer="json",
                accept_content=["json"],
                task_ignore_result=True,
                broker_connection_timeout=TIMEOUT_S,
                broker_transport_options={
                    "visibility_timeout": VISIBILITY_TIMEOUT_S,
                    "socket_timeout": TIMEOUT_S,
                    "socket_connect_timeout": TIMEOUT_S,
                    "max_retries": 1,  # the reconciler tries again, and must not be kept waiting
                    "interval_start": 0,
                    "interval_step": 0.1,
                },
            )
        return self._app

    @contextmanager
    def _errors(self, *others: type[Exception]) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        except (redis.RedisError, *others) as error:
            seconds = time.monotonic() - began
            url = redacted(self.broker_url)
            raise BrokerError(
                f"the broker at {url} can't be used: {error} (after {seconds:.1f} s)"
            ) from error
        except (KeyError, ValueError, TypeError) as error:
            url = redacted(self.broker_url)
            raise BrokerError(f"the broker at {url} holds what is not ours: {error!r}") from error


def _taken_message(raw: bytes) -> dict[str, Any]:
    """Return the message within one value of kombu's unacked hash: [message, exchange, routing key]."""
    message: dict[str, Any] = json.loads(raw)[0]
    return message


def _task_id(message: dict[str, Any]) -> str:
    """Return a message's task ID: in its headers (protocol 2), else in its body."""
    task_id = message.get("headers", {}).get("id")
    if task_id is None:
        body = json.loads(base64.b64decode(message["body"]))
        task_id = body.get("id", "") if isinstance(body, dict) else ""
    return str(task_id)
