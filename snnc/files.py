"""Files of users: read where they are files, written whole or not at all."""

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from snnc.errors import DataError

# Where torch keeps what it compiles; it makes the folder as soon as it is asked for anything.
_TORCH = "TORCHINDUCTOR_CACHE_DIR"
# A disk, or a share of it, that is full, and a file that has grown too large for it.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# No link is longer.
_LONGEST = 1024

# Whether another process writes what is written here.
_LEFT: ContextVar[bool] = ContextVar("left to others", default=False)

# What was written while somebody takes note.
_NOTED: ContextVar[list[Path] | None] = ContextVar("written", default=None)

# What a path may lead to that is no file, and may never end.
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_file(path: Path, *, hint: str = "check the path") -> int:
    """Return the size of a file in bytes, which nobody has opened yet.

    Raises DataError where there is none, or a pipe, a device or a folder, which may have no end.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise DataError("no such file", place=str(path), hint=hint) from None
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint=hint) from None
    except ValueError:
        # No file has such a name.
        raise DataError("no such file", place=str(path), hint=hint) from None
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"not a file but {kind_of(found)}", place=str(path), hint="name a file, or copy it into one")
    return found.st_size


def at_home(path: Path) -> Path:
    """Return a path with the home folder that a ``~`` at its beginning stands for; as it is where there is none."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def next_to(path: Path, name: str) -> Path:
    """Return the place of another file in the folder of one; raises DataError where that is the name of no file."""
    if not path.name:
        raise DataError("cannot write: it is a folder", place=str(path), hint="name a file in a folder of yours")
    return path.with_name(name)


def kind_of(found: os.stat_result) -> str:
    """Return what something is that is no file."""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "something else")


def read_bytes(path: Path, *, most: int | None = None, hint: str = "check the path") -> bytes:
    """Return what a file holds; raises DataError as ``check_file`` does, and of more than ``most`` bytes."""
    size = check_file(path, hint=hint)
    if most is not None and size > most:
        raise DataError(f"larger than {most:,} bytes", place=str(path), hint="check that it is the right file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(path), hint=hint) from None


def has_digest(path: Path, sha256: str) -> bool:
    """Return whether there is a file of that SHA-256 that can be read."""
    try:
        return hashlib.sha256(read_bytes(path)).hexdigest() == sha256
    except DataError:
        return False


def linked(path: Path) -> Path:
    """Return where a link leads that git or an archive wrote as a text, having no links; any other path as it is."""
    try:
        if path.is_symlink() or not path.is_file() or not 0 < path.stat().st_size <= _LONGEST:
            return path
        text = path.read_bytes().decode()
        target = path.parent / text
        meant = text == text.strip() and "\n" not in text and not Path(text).is_absolute()
        return target if meant and target.exists() else path
    except (OSError, ValueError):
        return path


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed on exit; raises DataError where none can be made or its disk is full."""
    hint = "free some space, or set TMPDIR to a folder on a larger disk"
    made: Path | None = None
    try:
        parent = Path(tempfile.gettempdir())
        _sweep(parent)
        with _removed(parent / f"{_own()}{secrets.token_hex(8)}") as folder:
            folder.mkdir(0o700)
            made = folder
            yield made
    except OSError as error:
        # What fails while the folder is there need not be about it.
        about_it = made is None or error.errno in _FULL or str(error.filename or "").startswith(str(made))
        if not about_it:
            raise
        raise DataError(f"cannot keep temporary files: {error.strerror or error}", hint=hint) from None


@contextlib.contextmanager
def removed_caches() -> Iterator[None]:
    """Let torch keep its caches, unless the user says where, in a folder that is removed on exit."""
    if _TORCH in os.environ:
        yield
        return
    with _removed(Path(tempfile.gettempdir(), f"{_own()}torch")) as folder:
        os.environ[_TORCH] = str(folder)
        try:
            yield
        finally:
            del os.environ[_TORCH]


@contextlib.contextmanager
def _removed(folder: Path) -> Iterator[Path]:
    """Remove a folder on exit, if it is there, where somebody stops the removal, too."""
    try:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def left_to_others() -> Iterator[None]:
    """Let files be written by another process that makes the same ones, as long as this lasts."""
    before = _LEFT.set(True)
    try:
        yield
    finally:
        _LEFT.reset(before)


def writes() -> bool:
    """Return whether files are to be written here, and are not left to another process."""
    return not _LEFT.get()


@contextlib.contextmanager
def noted_files() -> Iterator[list[Path] | None]:
    """Give a list of the files that are written, each once it is complete, as long as this lasts.

    None where somebody takes note of them already.
    """
    if _NOTED.get() is not None:
        yield None
        return
    found: list[Path] = []
    before = _NOTED.set(found)
    try:
        yield found
    finally:
        _NOTED.reset(before)


def note(path: Path) -> None:
    """Take note of a file that is complete."""
    found = _NOTED.get()
    if found is not None and path not in found:
        found.append(path)


def make_folder(path: Path, *, flag: str = "--output") -> None:
    """Make a folder, and those around it, unless it is there; raises DataError where that cannot be done.

    ``flag`` is what names another place on the command line.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        hint = f"choose another place with {flag}"
        raise DataError(f"cannot write: {reason}", place=str(path), hint=hint) from None


def write_atomically(path: Path, data: bytes | Callable[[Path], None], *, flag: str = "--output") -> None:
    """Write a file beside its target, then rename it; raises DataError and leaves nothing half-written.

    ``data`` is what it holds, or writes it at a path. What is a link stays one: what it leads to is written.
    ``flag`` is what names another place on the command line.
    """
    if not writes():
        return
    temporary = None
    try:
        target = Path(os.path.realpath(path))
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "not a file")
        _sweep(target.parent)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{_own()}", delete=False) as file:
            temporary = Path(file.name)
            if isinstance(data, bytes):
                file.write(data)
            else:
                data(temporary)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private to its owner; what is written for others to read is not.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        note(path)
    except BaseException as failure:
        # What is stopped by hand leaves nothing behind either.
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(failure, OSError):
            raise
        hint = f"choose another place with {flag}, or free some space"
        raise DataError(f"cannot write: {failure.strerror}", place=str(path), hint=hint) from None


def _own() -> str:
    """Return what the names of this process's temporary files begin with: the machine and the process are in it."""
    return f"snnc-{zlib.crc32(platform.node().encode()):08x}-{os.getpid()}-"


def _sweep(folder: Path) -> None:
    """Remove what processes of this machine and user left behind when they were killed."""
    if os.name != "posix":
        return
    own = re.compile(rf"\.?{_own().rsplit('-', 2)[0]}-(\d+)-\w+")
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = own.fullmatch(entry.name)
            if found and not _runs(int(found[1])) and entry.stat(follow_symlinks=False).st_uid == os.getuid():
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        pass
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
