"""From the inbox to the series."""

from __future__ import annotations

import queue
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import UID
from rig import ReadHere

from dicom_node.errors import StateError, UnreadableError
from dicom_node.intake import filing, received_file
from dicom_node.intake.filing import Filer
from dicom_node.intake.parser import DeadlyError
from dicom_node.receive.association import Association
from dicom_node.spool import series_folder

A = Association(id="aaaaaaaaaaaa", calling_ae="SCU", address="127.0.0.1", called_ae="NODE")
B = Association(id="bbbbbbbbbbbb", calling_ae="SCU", address="127.0.0.1", called_ae="NODE")
WAIT_S = 20


class Told(queue.Queue):
    """What the filer told, in order."""

    def next(self):
        return self.get(timeout=WAIT_S)

    def put_all(self, batch):
        for item in batch:
            self.put(item)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def start_filer(spool, told):
    started = []

    def start(on_filed=None, reader=None):
        filer = Filer(
            spool,
            on_filed or told.put_all,
            lambda *rejected: told.put(rejected),
            told.put,
            reader or ReadHere(spool),
        )
        filer.start()
        started.append(filer)
        return filer

    yield start
    for filer in started:
        filer.stop()


@pytest.fixture
def receive(put):
    """Put a dataset or bytes into the inbox, as the receiver does."""

    def put_image(ds, association=A):
        if isinstance(ds, bytes):
            return put(association.id, ds)
        file = BytesIO()
        ds.save_as(file, enforce_file_format=True)
        return put(association.id, file.getvalue())

    return put_image


def test_image_moves_to_its_series(start_filer, receive, make_image, told, spool):
    filer = start_filer()
    image = make_image(1)
    path = receive(image)
    filer.put(A, path)
    filer.association_ended(A)
    filed = told.next()
    assert told.next() == A  # by then the inbox is behind it
    assert (filed.outcome, filed.association) == ("new", A)
    assert filed.header.sop_instance_uid == image.SOPInstanceUID
    assert filed.path == spool.image_path(image.SeriesInstanceUID, image.SOPInstanceUID)
    assert dcmread(filed.path) == image
    assert spool.waiting() == []


def test_end_of_an_association_is_told_after_its_last_file(start_filer, receive, make_image, told):
    filer = start_filer()
    for number in range(1, 5):
        filer.put(A if number % 2 else B, receive(make_image(number)))
    filer.association_ended(B)
    filer.put(A, receive(make_image(5)))
    filer.association_ended(A)
    told_of = [told.next() for _ in range(7)]
    order = [item if isinstance(item, Association) else item.header.instance_number for item in told_of]
    assert [item for item in order if item not in (A, B)] == [1, 2, 3, 4, 5]
    assert [item for item in order if item in (A, B)] == [B, A]
    assert order.index(B) > order.index(4)
    assert order.index(A) > order.index(5)


def test_second_copy_with_the_same_pixels_is_dropped(start_filer, receive, make_image, told, spool):
    filer = start_filer()
    coerced = make_image(1, PatientName="Other^Name", StudyDescription="coerced")
    for image in (make_image(1), coerced):
        filer.put(A, receive(image))
    filer.association_ended(A)
    first, second = told.next(), told.next()
    told.next()
    assert (first.outcome, second.outcome) == ("new", "duplicate")
    assert second.path == first.path
    assert dcmread(first.path).PatientName == "Secret^Name"
    assert spool.waiting() == []
    assert list(spool.quarantine.iterdir()) == []


def test_second_copy_with_other_pixels_is_a_conflict_and_the_first_stays(
    start_filer, receive, make_image, told, spool
):
    filer = start_filer()
    for image in (make_image(1), make_image(1, seed=7)):
        filer.put(A, receive(image))
    first, second = told.next(), told.next()
    assert (first.outcome, second.outcome) == ("new", "conflict")
    assert dcmread(first.path) == make_image(1)
    assert dcmread(second.path) == make_image(1, seed=7)
    assert second.path.parent == spool.quarantine
    assert (
        second.path.with_suffix(".txt").read_text()
        == "its SOP Instance UID is there already, with other content\n"
    )


@pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"])
def test_transcoded_copy_is_a_duplicate(name, start_filer, receive, told):
    filer = start_filer()
    for file in ("MR_small.dcm", name):
        ds = dcmread(get_testdata_file(file))
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
        ds.SeriesInstanceUID = UID("1.2.3")
        filer.put(A, receive(ds))
    assert [told.next().outcome, told.next().outcome] == ["new", "duplicate"]


def test_object_without_pixels_is_filed_and_compared_by_what_it_says(start_filer, receive, told):
    filer = start_filer()
    report = dcmread(get_testdata_file("test-SR.dcm"))
    coerced = dcmread(get_testdata_file("test-SR.dcm"))
    coerced.PatientName = "Other"
    other = dcmread(get_testdata_file("test-SR.dcm"))
    other.ContentSequence[0].ValueType = "TEXT"
    for ds in (report, coerced, other):
        filer.put(A, receive(ds))
    assert [told.next().outcome for _ in range(3)] == ["new", "duplicate", "conflict"]


@pytest.mark.parametrize(
    "content", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 64]
)
def test_unreadable_file_goes_to_the_quarantine_with_its_reason(
    content, start_filer, receive, make_image, told, spool
):
    filer = start_filer()
    filer.put(A, receive(content))
    filer.put(A, receive(make_image(1)))
    association, reason, path = told.next()
    assert association == A.id
    assert path.parent == spool.quarantine
    assert path.read_bytes() == content
    assert path.with_suffix(".txt").read_text() == f"{reason}\n"
    assert told.next().outcome == "new"


def test_file_cut_in_its_pixels_goes_to_the_quarantine(start_filer, receive, make_image, told, spool):
    filer = start_filer()
    path = receive(make_image(1))
    path.write_bytes(path.read_bytes()[:-100])
    filer.put(A, path)
    assert told.next()[0] == A.id
    assert list(spool.series.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../etc/x", "/etc/passwd", "..", "1.2/3"])
def test_uid_with_path_characters_is_filed_inside_the_spool(
    uid, start_filer, receive, put, make_image, told, spool, tmp_path
):
    filer = start_filer()
    image = make_image(1, SOPInstanceUID=uid, SeriesInstanceUID=uid)
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = BytesIO()
    image.save_as(file, enforce_file_format=False)
    path = put(A.id, _with_preamble(image))
    filer.put(A, path)
    filer.association_ended(A)
    while told.next() != A:
        pass
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert all(path.is_relative_to(spool.series) or path.is_relative_to(spool.quarantine) for path in files)


def test_what_lay_in_the_inbox_is_filed_at_the_next_start(start_filer, receive, make_image, told):
    paths = [receive(make_image(number)) for number in (1, 2)]
    start_filer()
    filed = [told.next(), told.next()]
    assert [(item.header.instance_number, item.association) for item in filed] == [(1, None), (2, None)]
    assert len(paths) == 2


def test_rejected_leftover_is_told_with_the_id_in_its_name(start_filer, receive, told):
    receive(b"rubbish", B)
    start_filer()
    assert told.next()[0] == B.id


def test_image_linked_before_a_crash_is_told_again_as_new(start_filer, receive, make_image, told, spool):
    image = make_image(1)
    path = receive(image)
    final = spool.image_path(image.SeriesInstanceUID, image.SOPInstanceUID)
    final.parent.mkdir()
    final.hardlink_to(path)
    filer = start_filer()
    assert told.next().outcome == "new"
    filer.association_ended(A)
    told.next()
    assert spool.waiting() == []
    assert final.exists()


def test_refusing_database_is_waited_for_and_nothing_is_lost(
    start_filer, receive, make_image, told, monkeypatch
):
    monkeypatch.setattr(filing, "RETRY_S", 0.01)
    answers = iter([StateError("database is locked"), OSError(28, "No space left on device"), None, None])

    def on_filed(filed):
        answer = next(answers)
        if answer:
            raise answer
        told.put_all(filed)

    filer = start_filer(on_filed)
    filer.put(A, receive(make_image(1)))
    filer.put(A, receive(make_image(2)))
    assert [told.next().header.instance_number for _ in range(2)] == [1, 2]


def test_bug_in_a_listener_leaves_the_file_for_the_next_start(start_filer, receive, make_image, told, caplog):
    def on_filed(batch):
        if any(filed.header.instance_number == 1 for filed in batch):
            raise RuntimeError("a bug")
        told.put_all(batch)

    filer = start_filer(on_filed)
    path = receive(make_image(1))
    filer.put(A, path)
    filer.put(A, receive(make_image(2)))
    assert told.next().header.instance_number == 2
    filer.stop()
    assert path.exists()
    assert "could not be filed" in caplog.text
    start_filer()
    assert told.next().header.instance_number == 1


def test_images_of_a_batch_beside_one_that_cannot_be_filed_are_told_once_more_by_themselves(
    start_filer, receive, make_image, told
):
    batches = []

    def on_filed(batch):
        numbers = [filed.header.instance_number for filed in batch]
        batches.append(numbers)
        if 2 in numbers:
            raise RuntimeError("a bug")
        told.put_all(batch)

    for number in (1, 2, 3):
        receive(make_image(number))
    start_filer(on_filed)
    assert [told.next().header.instance_number for _ in range(2)] == [1, 3]
    assert batches == [[1, 2, 3], [1], [2], [3]]


def test_file_system_without_hard_links_is_served_by_renaming(
    start_filer, receive, make_image, told, spool, monkeypatch
):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(series_folder.os, "link", refuse)
    filer = start_filer()
    filer.put(A, receive(make_image(1)))
    filed = told.next()
    assert dcmread(filed.path) == make_image(1)
    assert spool.waiting() == []


def _with_preamble(image):
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    from dicom_node.receive.file_meta import encode_file_meta

    data = DicomBytesIO()
    data.is_little_endian, data.is_implicit_VR = True, False
    write_dataset(data, image)
    meta = encode_file_meta(
        sop_class_uid=image.SOPClassUID,
        sop_instance_uid=image.SOPInstanceUID,
        transfer_syntax_uid=image.file_meta.TransferSyntaxUID,
        calling_ae="SCU",
    )
    return meta + data.getvalue()


def test_image_with_a_damaged_header_goes_to_the_quarantine(start_filer, receive, make_image, told, spool):
    path = receive(make_image(1))
    damaged = path.read_bytes().replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00U\x94")  # no such VR
    path.write_bytes(damaged)
    start_filer()
    association_id, reason, aside = told.next()
    assert association_id == A.id
    assert reason == f"{path.name}: not readable as DICOM (NotImplementedError)"
    assert aside.parent == spool.quarantine
    assert aside.read_bytes() == damaged


def test_file_that_surprises_the_reader_is_set_aside_and_told(
    start_filer, receive, make_image, told, monkeypatch
):
    def surprised(path, **_):
        raise ZeroDivisionError("SECRET^NAME")

    monkeypatch.setattr(received_file, "read_header", surprised)
    path = receive(make_image(1))
    start_filer()
    _, reason, aside = told.next()
    assert reason == f"{path.name}: not readable as DICOM (ZeroDivisionError)"
    assert aside.exists()


def test_files_of_a_crash_are_filed_when_they_were_complete_and_go_when_not(
    start_filer, receive, make_image, told, spool
):
    (spool.inbox / "ba9876543210-000007.part").write_bytes(b"half")
    landing = spool.inbox_writer("ba9876543210")
    landing.begin(_with_preamble(make_image(1)))
    path = landing.finish()
    path.rename(path.with_suffix(".part"))
    start_filer()
    assert told.next().header.instance_number == 1
    assert list(spool.inbox.glob("*.part")) == []


def test_image_is_not_set_aside_because_too_many_files_are_open(
    start_filer, receive, make_image, told, spool, monkeypatch
):
    monkeypatch.setattr(filing, "RETRY_S", 0.01)
    read, refusals = received_file.read_header, [OSError(24, "Too many open files"), None]

    def refuse_once(path, **key):
        if error := refusals.pop(0):
            try:
                raise error
            except OSError as cause:
                raise received_file.UnreadableError(f"{path.name} can't be read") from cause
        return read(path, **key)

    monkeypatch.setattr(received_file, "read_header", refuse_once)
    filer = start_filer()
    filer.put(A, receive(make_image()))
    assert told.next().outcome == "new"
    assert not list(spool.quarantine.iterdir())


def test_copy_that_cannot_be_compared_is_set_aside_as_a_conflict(start_filer, receive, told, spool):
    report = dcmread(get_testdata_file("test-SR.dcm"))
    broken = dcmread(get_testdata_file("test-SR.dcm"))
    tag = BaseTag(0x00289416)  # SubtractionItemID, US: 2 bytes
    broken._dict[tag] = RawDataElement(tag, "US", 3, b"abc", 0, False, True)
    filer = start_filer()
    filer.put(A, receive(report))
    assert told.next().outcome == "new"
    filer.put(A, receive(broken))
    assert told.next().outcome == "conflict"
    assert not spool.waiting()


def test_corrected_copy_takes_the_place_of_the_first_and_a_crash_makes_it_come_again(
    spool, told, receive, make_image, monkeypatch
):
    def told_and_then_killed(batch):
        told.put_all(batch)
        if batch[0].outcome == "corrected":
            raise StateError("locked")

    def filer_with(on_filed):
        return Filer(spool, on_filed, told.put, told.put, ReadHere(spool), is_correction=lambda header: True)

    filer = filer_with(told_and_then_killed)
    filer.start()
    filer.put(A, receive(make_image(1)))
    assert told.next().outcome == "new"
    filer.put(A, receive(make_image(1, PatientID="corrected")))
    corrected = told.next()
    filer.stop()
    assert corrected.outcome == "corrected"
    assert dcmread(corrected.path).PatientID == "corrected"
    assert len(spool.waiting()) == 1, "its owner was not told"
    again = filer_with(told.put_all)
    again.start()
    while (filed := told.next()).association is not None:
        pass
    again.stop()
    assert (filed.outcome, filed.path) == ("new", corrected.path)
    assert spool.waiting() == []
    assert [path.name for path in corrected.path.parent.iterdir()] == [corrected.path.name]


def test_corrected_copy_is_kept_on_a_file_system_without_hard_links(
    spool, told, receive, make_image, monkeypatch
):
    def no_links(src, dst):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(series_folder.os, "link", no_links)
    filer = Filer(spool, told.put_all, told.put, told.put, ReadHere(spool), is_correction=lambda header: True)
    filer.start()
    for patient in ("first", "corrected"):
        filer.put(A, receive(make_image(1, PatientID=patient)))
    first, corrected = told.next(), told.next()
    filer.stop()
    assert (first.outcome, corrected.outcome) == ("new", "corrected")
    assert dcmread(corrected.path).PatientID == "corrected"
    assert [path.name for path in corrected.path.parent.iterdir()] == [corrected.path.name]


class LateReader(ReadHere):
    """A reader that takes long over some questions, and answers them when it is told to."""

    def __init__(self, spool, is_late):
        super().__init__(spool)
        self.is_late = is_late
        self.asked = queue.Queue()

    def ask(self, requests, on_late=None):
        late = [request for request in requests if self.is_late(request)]
        for request in late:
            self.asked.put((request, on_late))
        return super().ask([request for request in requests if request not in late])

    def answer_late(self, answer=None):
        request, on_late = self.asked.get(timeout=WAIT_S)
        self.is_late = lambda _: False
        on_late(request, super().ask([request])[request] if answer is None else answer)


def test_file_that_takes_long_is_filed_after_the_others_and_its_association_ends_after_it(
    spool, start_filer, receive, make_image, told
):
    reader = LateReader(spool, lambda request: request.path.name.startswith(A.id))
    filer = start_filer(reader=reader)
    filer.put(A, receive(make_image(1), A))
    filer.association_ended(A)
    filer.put(B, receive(make_image(2), B))
    filer.association_ended(B)
    assert told.next().header.instance_number == 2
    assert told.next() == B
    reader.answer_late()
    assert told.next().header.instance_number == 1
    assert told.next() == A
    assert spool.waiting() == []


def test_copy_that_takes_long_to_compare_holds_up_nothing(spool, start_filer, receive, make_image, told):
    reader = LateReader(spool, lambda request: request.first is not None)
    filer = start_filer(reader=reader)
    filer.put(A, receive(make_image(1)))
    filer.put(A, receive(make_image(1)))
    filer.put(A, receive(make_image(2)))
    assert [told.next().header.instance_number for _ in range(2)] == [1, 2]
    reader.answer_late()
    assert (copy := told.next()).outcome == "duplicate"
    assert copy.header.instance_number == 1
    filer.association_ended(A)
    told.next()
    assert spool.waiting() == []


def test_copy_that_processes_died_over_is_set_aside_and_named(spool, start_filer, receive, make_image, told):
    reader = LateReader(spool, lambda request: request.first is not None)
    filer = start_filer(reader=reader)
    filer.put(A, receive(make_image(1)))
    assert told.next().outcome == "new"
    copy = receive(make_image(1))
    filer.put(A, copy)
    reader.answer_late(DeadlyError(f"{copy.name}: 2 processes ended that had it in hand: signal 11"))
    association_id, reason, aside = told.next()
    assert association_id == A.id
    assert reason.endswith(
        "can't be compared: " + f"{copy.name}: 2 processes ended that had it in hand: signal 11"
    )
    assert aside.parent == spool.quarantine
    assert told.next().outcome == "conflict"


def test_late_file_that_the_disk_refuses_is_read_again(spool, start_filer, receive, make_image, told):
    reader = LateReader(spool, lambda _: True)
    filer = start_filer(reader=reader)
    filer.put(A, receive(make_image(1)))
    reader.answer_late(OSError(110, "the disk does not answer"))
    assert told.next().outcome == "new"


def test_copy_whose_first_image_is_removed_meanwhile_is_filed(spool, start_filer, receive, make_image, told):
    reader = LateReader(spool, lambda request: request.first is not None)
    filer = start_filer(reader=reader)
    filer.put(A, receive(make_image(1)))
    first = told.next()
    filer.put(A, receive(make_image(1)))
    request, on_late = reader.asked.get(timeout=WAIT_S)
    first.path.unlink()
    on_late(request, UnreadableError("x.dcm: can't be read: FileNotFoundError"))
    assert told.next().outcome == "new"
    assert first.path.exists()


def test_copy_whose_pixels_would_take_too_much_memory_is_set_aside_undecoded(start_filer, receive, told):
    filer = start_filer()
    for value in (1, 2):
        ds = dcmread(get_testdata_file("MR_small_jp2klossless.dcm"))
        ds.Rows = ds.Columns = 10_000
        ds.PixelData = bytes(ds.PixelData).replace(b"\xff\x4f", b"\xff\x4e") if value == 2 else ds.PixelData
        filer.put(A, receive(ds))
    assert told.next().outcome == "new"
    conflict = told.next()
    assert conflict.outcome == "conflict"
    reason = conflict.path.with_suffix(".txt").read_text()
    assert reason.endswith("a frame would take 200 MB when decoded, 128 MB are allowed\n")
