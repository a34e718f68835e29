"""``python -m snnc`` is ``snnc``: the command line in a process of its own, whose streams may be closed or full."""

import contextlib
import os
import sys
import warnings

_STOPPED = 130


def program() -> int:
    """Run the command line; return the exit code. Whatever nobody listens to is lost without a word.

    A command that was stopped ends the process as soon as it has tidied up. Python would end it by a signal where code
    made of text was running (``exec``, as dataclasses do), and threads of libraries may be in the middle of their work.
    """
    try:
        from snnc import process

        with process.interruptible():
            process.prepare_streams()
            if not sys.warnoptions:
                # What libraries remark is not the user's business; what matters is a finding.
                warnings.simplefilter("ignore")
            from snnc.cli import main

            code = main()
            if code != _STOPPED:
                process.pass_by()
    except KeyboardInterrupt:
        code = _STOPPED
    if code == _STOPPED:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, KeyboardInterrupt):
                stream.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(program())
