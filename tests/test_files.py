"""Files are written whole or not at all, and errors say whose they are."""

import errno
from pathlib import Path

import pytest

from snnc.errors import DataError
from snnc.files import temporary_folder, write_atomically


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
