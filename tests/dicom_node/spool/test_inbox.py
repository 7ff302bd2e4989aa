"""How received files reach the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import SpoolFullError
from dicom_node.spool.inbox import LARGEST_BATCH, InboxWriter, recover

HEAD = b"\0" * 128 + b"DICMmeta"


@pytest.fixture
def writer(tmp_path):
    writer = InboxWriter(tmp_path, "0123456789ab")
    yield writer
    writer.close()


def land(writer, *pieces):
    writer.begin(HEAD)
    for piece in pieces:
        writer.write(memoryview(piece))
    return writer.finish()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def synchronised(monkeypatch):
    """Watch fsync: what it was called for (a folder's entries, or a file's name and content)."""
    seen = []
    fsync = os.fsync

    def watch(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(names(path) if path.is_dir() else (path.name, path.read_bytes()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    return seen


def test_finished_file_holds_head_and_data_for_its_owner_only(writer, tmp_path):
    path = land(writer, b"da", b"ta")
    assert path.read_bytes()[128:] == b"DICMmetadata"
    assert path.stat().st_mode & 0o777 == 0o600
    writer.close()
    assert names(tmp_path) == [path.name]


def test_name_is_on_the_disk_before_the_content_and_both_before_the_end(writer, synchronised):
    land(writer, b"data")
    folder, (name, content) = synchronised
    assert folder == [name] == ["0123456789ab-000001.part"]
    assert content[128:] == b"DICMmetadata"


def test_many_files_wait_once_each_and_their_folder_seldom(writer, synchronised):
    for _ in range(200):
        land(writer, b"data")
    folders = [seen for seen in synchronised if isinstance(seen, list)]
    assert len(synchronised) - len(folders) == 200
    assert len(folders) == 9  # for 1, 2, 4, 8, 16, 32 and 64 names, then 64 each
    assert LARGEST_BATCH == 64


def test_names_that_were_not_needed_go(writer, tmp_path):
    paths = [land(writer, b"data") for _ in range(5)]
    assert len(names(tmp_path)) == 7
    writer.begin(HEAD)
    writer.close()
    assert names(tmp_path) == [path.name for path in paths]


def test_file_of_a_power_cut_is_kept_when_it_was_complete(writer, tmp_path):
    path = land(writer, b"data")
    path.rename(path.with_suffix(".part"))  # the rename was not on the disk yet
    assert recover(tmp_path) == (1, 0)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:-1] + b"\0",
        lambda content: b"\0" * 128 + content[128:],
        lambda content: content[:50],
    ],
    ids=["cut off", "too long", "a page not written", "no record", "in the preamble"],
)
def test_file_of_a_power_cut_goes_when_it_was_not(damage, writer, tmp_path):
    path = land(writer, b"data")
    path.rename(path.with_suffix(".part"))
    path.with_suffix(".part").write_bytes(damage(path.with_suffix(".part").read_bytes()))
    assert recover(tmp_path) == (0, 1)
    assert names(tmp_path) == []


def test_names_made_ahead_go_after_a_crash_and_are_not_counted(tmp_path):
    writer = InboxWriter(tmp_path, "0123456789ab")
    for _ in range(3):
        land(writer, b"data")
    writer.begin(HEAD)
    assert recover(tmp_path) == (0, 1)
    assert [name.endswith(".dcm") for name in names(tmp_path)] == [True] * 3


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, SpoolFullError), (errno.EIO, SpoolError)])
@pytest.mark.parametrize("call", ["fsync", "pwrite", "write", "open"])
def test_failure_leaves_nothing_and_the_next_file_lands(writer, tmp_path, monkeypatch, call, number, kind):
    def fail(*arguments, **keywords):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(SpoolError) as caught:
            land(writer, b"data")
    assert type(caught.value) is kind
    assert [path for path in tmp_path.iterdir() if path.stat().st_size] == []
    path = land(writer, b"data")
    writer.close()
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("call", ["fsync", "write", "open"])
def test_disk_gone_read_only_is_told_as_such_and_not_by_what_it_leaves(writer, tmp_path, monkeypatch, call):
    def refuse(*arguments, **keywords):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(SpoolError, match="Read-only file system"):
            land(writer, b"data")
    path = land(writer, b"data")
    writer.close()
    recover(tmp_path)
    assert names(tmp_path) == [path.name]
