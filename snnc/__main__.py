"""``python -m snnc`` is ``snnc``: the command line in a process of its own, whose streams may be closed or full."""

import signal
import sys
import warnings


def program() -> int:
    """Run the command line; return the exit code. Whatever nobody listens to is lost without a word."""
    try:
        from snnc import process

        process.prepare_streams()
        if not sys.warnoptions:
            # What libraries remark is not the user's business; what matters is a finding.
            warnings.simplefilter("ignore")
        from snnc.cli import main

        code = main()
        # What is done is done: nothing that comes now shall say otherwise.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(program())
