"""What the node and its receiver processes say to each other, written and read back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest

from dicom_node.receive.admission import Refusal
from dicom_node.receive.association import Association
from dicom_node.receive.commitment_scp import CommitmentPolicy
from dicom_node.receive.events import (
    AssociationCut,
    AssociationEnded,
    AssociationEvent,
    AssociationOpened,
    AssociationRefused,
    CommitmentAsked,
    CommitmentGiven,
    CommitmentReported,
    ImageRefused,
    ImageStored,
    call,
    guarded,
)
from dicom_node.receive.limits import Limits
from dicom_node.receive.message_codec import MessageCodec
from dicom_node.receive.process_messages import (
    FROM_NODE,
    FROM_RECEIVER,
    Admit,
    Admitted,
    Begin,
    FromNode,
    FromReceiver,
    Leave,
    Ready,
    Stop,
    Stopped,
)
from dicom_node.standard.status import Rejection
from dicom_node.tls import ServerTls

CALLER = Association("0123456789ab", "SCANNER", "127.0.0.1", "LESIONNODE")
ODD_PATH = Path(os.fsdecode(b"/data/\xff/0123456789ab-000001.dcm"))

NODE_SAYS: list[FromNode] = [
    Begin("NODE", Path("/data"), 0.9, Limits(idle_s=5), None, CommitmentPolicy()),
    Begin(
        "NODE",
        Path("/data"),
        1,
        Limits(),
        ServerTls(Path("/certificate.pem"), None, Path("/ca.pem")),
        CommitmentPolicy(86400.0, frozenset({"PACS", "ARCHIVE"})),
    ),
    Admitted(1, None),
    Admitted(2, Refusal(Rejection(2, 3, 2), "4 associations are open, the limit is 4")),
    Stop(),
]

EVENTS: dict[str, AssociationEvent] = {
    "association_opened": AssociationOpened(CALLER),
    "association_refused": AssociationRefused(CALLER, "AE title is not in [accept] callers"),
    "association_cut": AssociationCut(CALLER, "it sent nothing for 60 s"),
    "image_stored": ImageStored(CALLER, ODD_PATH),
    "image_refused": ImageRefused(CALLER, 0xA700, "the disk is over 95% full"),
    "commitment_asked": CommitmentAsked(CALLER, "0123456789abcdef.json"),
    "commitment_given": CommitmentGiven(CALLER, 3, 1),
    "commitment_reported": CommitmentReported(CALLER, "1.2.3", ("1.2.4", "1.2.5"), {"1.2.6": 0x0112}),
    "association_ended": AssociationEnded(CALLER, 3, 0.5),
}

RECEIVER_SAYS: list[FromReceiver] = [*EVENTS.values(), Ready(), Admit(1, CALLER), Leave(CALLER), Stopped()]


def test_every_message_has_an_example_here() -> None:
    assert {type(message) for message in NODE_SAYS} == set(get_args(FromNode))
    assert {type(message) for message in RECEIVER_SAYS} == set(get_args(FromReceiver))


@pytest.mark.parametrize("message", NODE_SAYS, ids=lambda message: type(message).__name__)
def test_what_the_node_says_is_read_back_as_it_was(message: FromNode) -> None:
    assert FROM_NODE.decode(FROM_NODE.encode(message)) == message


@pytest.mark.parametrize("message", RECEIVER_SAYS, ids=lambda message: type(message).__name__)
def test_what_a_receiver_says_is_read_back_as_it_was(message: FromReceiver) -> None:
    assert FROM_RECEIVER.decode(FROM_RECEIVER.encode(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '["Nobody", {}]',
        '["Stop", {}]',
        '["Leave", {}]',
        '["Leave", {"association": null}]',
        '["Leave", {"association": {"id": "0123456789ab"}}]',
        '["Leave", {"association": {"id": 1, "calling_ae": "A", "address": "B", "called_ae": "C"}}]',
    ],
)
def test_what_a_receiver_does_not_say_is_no_message(text: str) -> None:
    with pytest.raises(ValueError, match="not a message"):
        FROM_RECEIVER.decode(text.encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("committed", "1.2.4"),
        ("committed", [1]),
        ("failed", ["1.2.6"]),
        ("failed", {"1.2.6": "0112"}),
        ("transaction_uid", None),
    ],
)
def test_field_of_another_type_is_no_message(name: str, value: object) -> None:
    kind, fields = json.loads(FROM_RECEIVER.encode(EVENTS["commitment_reported"]))
    with pytest.raises(ValueError, match="not a message: TypeError"):
        FROM_RECEIVER.decode(json.dumps([kind, {**fields, name: value}]).encode())


def test_type_that_cannot_be_read_back_is_refused_before_anything_is_said() -> None:
    with pytest.raises(TypeError, match="no type for a field"):
        MessageCodec(Unreadable)


@dataclass(frozen=True)
class Unreadable:
    what: object


@pytest.mark.parametrize("name", EVENTS)
def test_event_is_one_call_with_all_that_it_holds(name: str) -> None:
    calls: list[tuple[str, tuple[Any, ...]]] = []

    class Handler:
        def __getattr__(self, called: str) -> Any:
            return lambda *details: calls.append((called, details))

    event = EVENTS[name]
    call(Handler(), event)  # type: ignore[arg-type]
    held = [list(value) if isinstance(value, tuple) else value for value in vars(event).values()]
    assert calls == [(name, tuple(held))]


def test_what_a_handler_raises_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    def raises(event: AssociationEvent) -> None:
        raise RuntimeError("told to")

    guarded(raises)(EVENTS["image_stored"])
    assert "association 0123456789ab: ImageStored could not be handled" in caplog.text
