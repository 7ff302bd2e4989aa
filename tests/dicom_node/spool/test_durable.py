"""The one durable write: whole or not at all, whatever fails or ends it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.errors import SpoolError
from dicom_node.spool.durable import SpoolFullError, write_durably

STEPS = ["open", "write", "fsync of the file", "close", "replace", "fsync of the folder"]


class KilledError(BaseException):
    """The process ends here: nothing that handles errors runs."""


def is_folder(descriptor: int) -> bool:
    return Path(f"/proc/self/fd/{descriptor}").readlink().is_dir()


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], None]], Any]:
    """Have something happen at one step of a write, instead of it."""

    @contextmanager
    def at(step: str, happen: Callable[[], None]) -> Iterator[None]:
        reals = {"open": os.open, "write": os.write, "fsync": os.fsync, "close": os.close}

        def watch(call: str) -> Callable[..., Any]:
            def watched(first: Any, *rest: Any, **keywords: Any) -> Any:
                told = f"fsync of the {'folder' if is_folder(first) else 'file'}" if call == "fsync" else call
                if told == step:
                    if call == "close":
                        reals["close"](first)
                    happen()
                return reals[call](first, *rest, **keywords)

            return watched

        def watched_replace(part: Path, target: Path) -> Path:
            if step == "replace":
                happen()
            os.rename(part, target)  # noqa: PTH104 - Path.replace is what is watched
            return target

        with monkeypatch.context() as patch:
            for call in reals:
                patch.setattr(os, call, watch(call))
            patch.setattr(Path, "replace", watched_replace)
            yield

    return at


def fail(number: int) -> Callable[[], None]:
    def happen() -> None:
        raise OSError(number, os.strerror(number))

    return happen


def kill() -> None:
    raise KilledError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_holds_what_was_written_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        write_durably(tmp_path / "text", "größer\n")
        write_durably(tmp_path / "bytes", b"\x00\xff")
    finally:
        os.umask(mask)
    assert (tmp_path / "text").read_text(encoding="utf-8") == "größer\n"
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600, 0o600]
    write_durably(tmp_path / "text", "")
    assert (tmp_path / "text").read_bytes() == b""
    assert names(tmp_path) == ["bytes", "text"]


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, object]] = []
    fsync, replace = os.fsync, Path.replace

    def watch_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        seen.append(("folder", names(path)) if path.is_dir() else ("file", path.read_bytes()))
        fsync(descriptor)

    def watch_replace(part: Path, target: Path) -> Path:
        seen.append(("rename", target.name))
        return replace(part, target)

    monkeypatch.setattr(os, "fsync", watch_fsync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    write_durably(tmp_path / "a", b"content")
    assert seen == [("file", b"content"), ("rename", "a"), ("folder", ["a"])]


@pytest.mark.parametrize("earlier", [None, b"earlier"])
@pytest.mark.parametrize("step", STEPS)
def test_write_that_is_killed_leaves_the_earlier_content_or_the_new(
    tmp_path: Path, before: Any, step: str, earlier: bytes | None
) -> None:
    path = tmp_path / "a"
    if earlier is not None:
        write_durably(path, earlier)
    with before(step, kill), pytest.raises(KilledError):
        write_durably(path, b"new")
    found = path.read_bytes() if path.exists() else None
    assert found == (b"new" if step == "fsync of the folder" else earlier)
    write_durably(path, b"newer")  # what the killed one left is no hindrance
    assert path.read_bytes() == b"newer"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("number", "kind", "way_out"),
    [
        (errno.ENOSPC, SpoolFullError, "Make room on its disk"),
        (errno.EROFS, SpoolError, "Give this user the rights"),
        (errno.EIO, SpoolError, "its disk is sound"),
    ],
)
@pytest.mark.parametrize("step", STEPS)
def test_write_that_fails_says_the_file_and_the_way_out_and_leaves_nothing(
    tmp_path: Path, before: Any, step: str, number: int, kind: type[SpoolError], way_out: str
) -> None:
    path = tmp_path / "a"
    write_durably(path, b"earlier")
    with before(step, fail(number)), pytest.raises(SpoolError) as caught:
        write_durably(path, b"new")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{path}: can't be written: {os.strerror(number)}. ")
    assert way_out in str(caught.value)
    assert path.read_bytes() == (b"new" if step == "fsync of the folder" else b"earlier")
    assert names(tmp_path) == ["a"]


def test_file_that_the_system_takes_in_pieces_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_durably(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_two_threads_that_write_the_same_file_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    both_written = threading.Barrier(2, timeout=10)
    fsync = os.fsync

    def wait_for_the_other(descriptor: int) -> None:
        fsync(descriptor)
        if not is_folder(descriptor):
            both_written.wait()

    monkeypatch.setattr(os, "fsync", wait_for_the_other)
    failures: list[Exception] = []

    def write(content: bytes) -> None:
        try:
            write_durably(path, content)
        except SpoolError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in (b"one" * 9, b"other" * 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert path.read_bytes() in {b"one" * 9, b"other" * 9}
    assert names(tmp_path) == ["a"]


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=r"gone/a: can't be written: No such file.*folder is there"):
        write_durably(tmp_path / "gone" / "a", "x")
