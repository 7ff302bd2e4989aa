"""Who may call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dicom_node.config.sections import AcceptSection
from dicom_node.errors import ConfigError
from dicom_node.receive.admission import Admission, Gate
from dicom_node.receive.association import Association


def caller(ae_title, address="0.0.0.0/0"):
    return SimpleNamespace(ae_title=ae_title, address=address)


def association(number=0, calling="PACS1", address="10.1.2.3", called="NODE"):
    return Association(id=f"{number:012}", calling_ae=calling, address=address, called_ae=called)


def check(admission, calling="PACS1", address="10.1.2.3", called="NODE"):
    return numbers(Gate(admission, "NODE").admit(association(0, calling, address, called)))


def numbers(refusal):
    return (
        None
        if refusal is None
        else (refusal.rejection.result, refusal.rejection.source, refusal.rejection.diagnostic)
    )


CALLING = (1, 1, 3)
CALLED = (1, 1, 7)
LIMIT = (2, 3, 2)


@pytest.mark.parametrize(
    ("calling", "address", "expected"),
    [
        ("PACS1", "10.1.2.3", None),
        ("PACS1", "10.1.255.1", None),
        ("PACS1", "::ffff:10.1.2.3", None),
        ("PACS1", "10.2.0.1", CALLING),
        ("PACS1", "fe80::1%eth0", CALLING),
        ("PACS1", "not an address", CALLING),
        ("pacs1", "10.1.2.3", CALLING),
        ("OTHER", "10.1.2.3", CALLING),
        ("MR", "192.168.7.7", None),
        ("MR", "192.168.9.9", None),
        ("MR", "192.168.8.8", CALLING),
        ("ANYWHERE", "172.16.0.1", None),
        ("ANYWHERE", "2001:db8::1", None),
        ("V6", "2001:db8::17", None),
        ("V6", "10.1.2.3", CALLING),
    ],
)
def test_listed_callers_come_in_from_their_addresses_only(calling, address, expected):
    admission = Admission(
        [
            caller("PACS1", "10.1.0.0/16"),
            caller("MR", "192.168.7.7"),
            caller("MR", "192.168.9.9"),
            caller("ANYWHERE"),
            caller("V6", "2001:db8::/32"),
        ]
    )
    assert check(admission, calling, address) == expected


def test_without_a_list_anyone_comes_in():
    admission = Admission()
    assert check(admission, "ANYBODY", "203.0.113.9") is None


def test_wrong_called_title_is_refused_unless_it_is_not_required():
    assert check(Admission(), called="OTHER") == CALLED
    assert check(Admission(require_called_ae=False), called="OTHER") is None


def test_limit_counts_the_associations_that_are_open():
    gate = Gate(Admission(), "NODE", max_associations=2)
    assert [numbers(gate.admit(association(number))) for number in range(3)] == [None, None, LIMIT]
    gate.leave(association(1))
    gate.leave(association(1))
    assert [numbers(gate.admit(association(number))) for number in (3, 4)] == [None, LIMIT]


def test_one_address_gets_no_more_than_its_share_whatever_it_calls_itself():
    gate = Gate(Admission(), "NODE", max_associations=4, max_per_caller=2)
    assert gate.admit(association(1, "A")) is gate.admit(association(2, "B")) is None
    refusal = gate.admit(association(3, "C"))
    assert numbers(refusal) == LIMIT
    assert refusal.reason == "2 associations of this address are open, its limit is 2"
    assert gate.admit(association(4, "A", address="10.1.2.4")) is None
    gate.leave(association(1, "A"))
    assert gate.admit(association(5, "C")) is None


@pytest.mark.parametrize(
    ("given", "most"),
    [
        ({}, 24),
        ({"max_associations": 10}, 7),
        ({"max_associations": 1}, 1),
        ({"max_per_caller": 5}, 5),
        ({"max_per_caller": 0}, 0),
    ],
)
def test_one_caller_gets_three_quarters_unless_it_is_said_otherwise(given, most):
    assert AcceptSection(**given).most_per_caller == most


def test_caller_that_takes_all_it_gets_leaves_room_for_another():
    accept = AcceptSection(max_associations=8)
    gate = Gate(
        Admission(),
        "NODE",
        max_associations=accept.max_associations,
        max_per_caller=accept.most_per_caller,
    )
    refused = [gate.admit(association(number)) for number in range(9)]
    assert [numbers(refusal) for refusal in refused] == [None] * 6 + [LIMIT] * 3
    assert gate.admit(association(9, address="10.1.2.4")) is None


def test_address_that_is_none_is_an_error_of_the_configuration():
    with pytest.raises(ConfigError, match=r"callers PACS1: address '10\.1\.'"):
        Admission([caller("PACS1", "10.1.")])


@pytest.mark.parametrize(
    ("titles", "diagnostic", "reason"),
    [
        ({"calling": "OTHER"}, (1, 1, 3), "AE title is not in [accept] callers"),
        ({"called": "OTHER"}, (1, 1, 7), "calls 'OTHER', and this is 'NODE'"),
    ],
)
def test_refused_caller_gets_the_standard_reason_and_a_line(
    titles, diagnostic, reason, start_scp, associate, recorder
):
    scp = start_scp(admission=Admission([caller("SCU", "127.0.0.0/8")]))
    assoc = associate(scp.port, **titles)
    assert assoc.is_rejected
    answer = assoc.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == diagnostic
    assert recorder.wait("association_refused") == [(reason,)]
    assert associate(scp.port).is_established
    assert recorder.of("association_ended") == []


def test_association_beyond_the_limit_is_refused_until_one_ends(start_scp, associate, recorder):
    scp = start_scp(max_associations=2)
    first = associate(scp.port)
    assert associate(scp.port).is_established
    third = associate(scp.port)
    answer = third.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
    assert recorder.wait("association_refused") == [("2 associations are open, the limit is 2",)]
    first.release()
    recorder.wait("association_ended")
    assert associate(scp.port).is_established
