"""Files are written whole or not at all, and errors say whose they are."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import snnc
from snnc.errors import DataError
from snnc.files import make_folder, removed_caches, temporary_folder, write_atomically


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_one(number: int) -> None:
    with pytest.raises(DataError, match="temporary files") as caught, temporary_folder():
        raise OSError(number, "no space")
    assert "TMPDIR" in caught.value.hint


def test_what_goes_wrong_in_the_folder_is_told_as_that() -> None:
    with pytest.raises(DataError, match="temporary files"), temporary_folder() as folder:
        (folder / "not there").read_bytes()
    assert not folder.exists()


def test_what_goes_wrong_elsewhere_meanwhile_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), temporary_folder() as folder:
        (tmp_path / "not there").read_bytes()
    assert not folder.exists()


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "no space"), KeyboardInterrupt(), MemoryError()])
def test_a_write_that_ends_early_leaves_what_was_there(
    failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise failure

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(DataError if isinstance(failure, OSError) else type(failure)):
        write_atomically(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from snnc.files import temporary_folder, write_atomically
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
with temporary_folder() as folder:
    (folder / "large").write_bytes(b"x")
    write_atomically(Path(sys.argv[1]), b"new")
"""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    environment = {**os.environ, "PYTHONPATH": str(Path(snnc.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", code, str(place / "file")], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,), (folder,) = list(place.iterdir()), [path for path in tmp_path.iterdir() if path != place]
    assert left.name.startswith(".snnc-") and folder.name.startswith("snnc-")
    mine = place / left.name.replace(left.name.split("-")[2], str(os.getpid()))
    mine.write_bytes(b"in use")
    (place / "snnc-mine").write_bytes(b"the user's")
    write_atomically(place / "file", b"newer")
    with temporary_folder():
        assert not folder.exists()
    assert sorted(path.name for path in place.iterdir()) == sorted(["file", "snnc-mine", mine.name])


def test_only_files_are_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(DataError, match="cannot write: not a file"):
            write_atomically(place, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_what_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real/file")
    for data in (b"old", b"new"):
        write_atomically(link, data)
        assert link.is_symlink() and (tmp_path / "real" / "file").read_bytes() == data
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["file/in", "a\0b", "a" * 300])
def test_a_folder_that_cannot_be_made_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write") as caught:
        make_folder(tmp_path / name, flag="--html")
    assert caught.value.place == str(tmp_path / name) and "--html" in caught.value.hint


@pytest.mark.parametrize("within", [temporary_folder, removed_caches])
def test_who_stops_the_removal_of_a_folder_leaves_nothing_of_it(
    within: Callable[[], AbstractContextManager[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    remove, asked = shutil.rmtree, []

    def stopped(path: Path, **options: bool) -> None:
        asked.append(path)
        if len(asked) == 1:
            raise KeyboardInterrupt
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt), within():
        Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))).mkdir(exist_ok=True)
    assert len(asked) == 2 and not [*tmp_path.iterdir()]
