"""The data folder."""

from __future__ import annotations

import os

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool.spool import Spool

ID = "0123456789ab"


def test_folders_are_made_for_their_owner_only(tmp_path):
    spool = Spool(tmp_path / "data")
    for folder in (spool.root, spool.inbox, spool.series, spool.quarantine, spool.results, spool.jobs):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_existing_root_keeps_its_rights_and_existing_folders_are_closed(tmp_path):
    root = tmp_path / "mount"
    (root / "series").mkdir(parents=True, mode=0o755)
    root.chmod(0o755)
    spool = Spool(root)
    assert root.stat().st_mode & 0o777 == 0o755
    assert spool.series.stat().st_mode & 0o777 == 0o700


def test_root_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(SpoolError, match="Choose another"):
        Spool(tmp_path / "data")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a-b", "a" * 65])
def test_association_id_that_is_not_ours_is_refused(spool, name):
    with pytest.raises(ValueError, match="letters and digits"):
        spool.inbox_writer(name)


def test_high_water_decides_on_room(tmp_path):
    assert Spool(tmp_path, 1.0).has_room()
    assert not Spool(tmp_path, 0.0).has_room()


@pytest.mark.parametrize("uid", ["1.2.3", "../../etc/x", "/etc/passwd", "", "1" * 300, "ü\udcff\0"])
def test_uid_becomes_a_digest_in_the_spool(spool, uid):
    path = spool.image_path(uid, uid)
    key = path.stem
    assert path == spool.series / key / f"{key}.dcm"
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_series_key_is_the_digest_of_its_uid(spool):
    assert spool.series_folder("1.2.3").name == "c47f5b18b8a430e698b9fe15e51f6119"


def test_relative_and_absolute_paths_are_each_other(spool):
    path = spool.image_path("1.2.3", "1.2.3.4")
    assert spool.relative(path).startswith("series/")
    assert spool.absolute(spool.relative(path)) == path


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "series/../../x", "link/x"])
def test_path_out_of_the_spool_is_refused(spool, relative):
    (spool.root / "link").symlink_to("/etc")
    with pytest.raises(SpoolError, match="leads out"):
        spool.absolute(relative)


def test_path_elsewhere_has_no_relative_form(spool, tmp_path):
    with pytest.raises(SpoolError, match="not in the data folder"):
        spool.relative(tmp_path / "x")


def test_quarantined_file_has_its_reason_beside_it_and_never_overwrites(spool, put):
    first = put(ID, b"one")
    second = put(ID, b"two")
    a = spool.quarantine_file(first, "not DICOM")
    renamed = second.rename(first)
    b = spool.quarantine_file(renamed, "cut off")
    assert (a.read_bytes(), a.with_suffix(".txt").read_text()) == (b"one", "not DICOM\n")
    assert (b.read_bytes(), b.with_suffix(".txt").read_text()) == (b"two", "cut off\n")
    assert a.parent == b.parent == spool.quarantine
    assert spool.waiting() == []


def test_waiting_files_come_oldest_first(spool, put):
    paths = [put(ID, b"x") for _ in range(3)]
    for age, path in zip((10, 30, 20), paths, strict=True):
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    (spool.inbox / "x.part").write_bytes(b"")
    assert spool.waiting() == [paths[1], paths[2], paths[0]]


def test_file_that_is_filed_while_the_inbox_is_read_is_no_error(spool, put, monkeypatch):
    stays, goes = put(ID, b"x"), put(ID, b"y")
    entries = list(os.scandir(spool.inbox))
    goes.unlink()
    monkeypatch.setattr("dicom_node.spool.spool.os.scandir", lambda _: entries)
    assert spool.waiting() == [stays]


def test_data_folder_that_is_gone_is_one_clear_error(spool):
    spool.root.rename(spool.root.with_name("elsewhere"))
    with pytest.raises(SpoolError, match="can't be used"):
        spool.has_room()
