import io
from pathlib import Path

import pytest
from rich.console import Console

from dicom_node.deliver.address import Address
from dicom_node.deliver.c_store import Outcome, SendResult
from dicom_node.demo import demonstration as demo
from dicom_node.errors import NodeError
from dicom_node.worklog.writer import Worklog


def test_images_that_are_not_taken_are_told_with_the_nodes_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "node-data").mkdir()
    worklog = Worklog(tmp_path / "node-data")
    worklog.write("image-refused", calling_ae="SCANNER", status="A700", reason="the disk is over 90% full")
    results = [
        SendResult(Path("1.dcm"), "1.2", "1.2.1", Outcome.STORED),
        SendResult(Path("2.dcm"), "1.2", "1.2.2", Outcome.RETRY, "status A700"),
    ]
    monkeypatch.setattr(demo, "send_files", lambda *_, **__: results)
    said = io.StringIO()
    console = Console(file=said, width=200)
    shown = demo.Demo(console, [], tmp_path, is_kept=True)
    with pytest.raises(NodeError, match="the node did not take 1 of 2 images"):
        shown._send([Path("1.dcm"), Path("2.dcm")], Address("NODE", "127.0.0.1", 104))
    assert "1 of 2 images sent" in said.getvalue()
    assert "refused with A700, the disk is over 90% full" in said.getvalue()
