"""Files that are written whole or not at all."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from snnc.errors import DataError

# A disk, or a share of it, that is full, and a file that has grown too large for it.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed on exit; raises DataError where none can be made or its disk is full."""
    hint = "free some space, or set TMPDIR to a folder on a larger disk"
    made = ""
    try:
        with tempfile.TemporaryDirectory(prefix="snnc-") as made:
            yield Path(made)
    except OSError as error:
        # What fails while the folder is there need not be about it.
        about_it = not made or error.errno in _FULL or str(error.filename or "").startswith(made)
        if not about_it:
            raise
        raise DataError(f"cannot keep temporary files: {error.strerror or error}", hint=hint) from None


def write_atomically(path: Path, data: bytes, *, flag: str = "--output") -> None:
    """Write a file beside its target, then rename it; raises DataError and leaves nothing half-written.

    ``flag`` is what names another place on the command line.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private to its owner; what is written for others to read is not.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException as failure:
        # What is stopped by hand leaves nothing behind either.
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if not isinstance(failure, OSError):
            raise
        hint = f"choose another place with {flag}, or free some space"
        raise DataError(f"cannot write: {failure.strerror}", place=str(path), hint=hint) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
