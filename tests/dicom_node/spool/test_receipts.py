import stat

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool.receipts import Receipt, append_receipts, read_receipts


def test_last_receipt_of_an_object_holds(tmp_path):
    append_receipts(tmp_path, "pacs", [Receipt("1.1", "sent", 10.0), Receipt("1.2", "failed", 11.0, "A900")])
    append_receipts(tmp_path, "pacs", [Receipt("1.1", "confirmed", 12.0)])
    assert read_receipts(tmp_path, "pacs") == {
        "1.1": Receipt("1.1", "confirmed", 12.0),
        "1.2": Receipt("1.2", "failed", 11.0, "A900"),
    }
    assert read_receipts(tmp_path, "other") == {}


def test_line_that_was_cut_off_is_passed_over_and_spoils_no_other(tmp_path):
    append_receipts(tmp_path, "pacs", [Receipt("1.1", "sent", 10.0)])
    with (tmp_path / "delivered" / "pacs.jsonl").open("a") as file:
        file.write('{"sop_instance_uid": "1.2", "sta')
    append_receipts(tmp_path, "pacs", [Receipt("1.3", "sent", 13.0)])
    assert set(read_receipts(tmp_path, "pacs")) == {"1.1", "1.3"}


def test_receipts_are_for_the_owner_only(tmp_path):
    append_receipts(tmp_path, "pacs", [Receipt("1.1", "sent", 10.0)])
    path = tmp_path / "delivered" / "pacs.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(SpoolError, match=r"pacs\.jsonl: the receipt can't be written"):
        append_receipts(tmp_path / "gone", "pacs", [Receipt("1.1", "sent", 10.0)])
