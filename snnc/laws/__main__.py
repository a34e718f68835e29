"""Ask of plug-ins what snnc's own members obey: python -m snnc.laws FILE.py ..."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from snnc import process
from snnc.errors import GateError, SnncError, UsageError
from snnc.text import counted


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the files, print what laws say of their members, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m snnc.laws", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.py", help="a plug-in")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell which laws are kept, too")
    given = parser.parse_args(arguments)
    process.prepare()
    try:
        return GateError.exit_code if _broken(given.files, given.verbose) else 0
    except SnncError as error:
        print(f"error: {error.line}\nhint:  {error.hint}", file=sys.stderr)
        return error.exit_code


def _broken(files: Sequence[Path], verbose: bool) -> int:
    """Print the verdicts, and return how many laws are broken; raises UsageError where there is nothing to judge."""
    import torch

    from snnc import plugins
    from snnc.laws import verdicts

    # On networks this small, threads that wait for one another cost more than they bring.
    torch.set_num_threads(1)
    plugins.load(files)
    broken = 0
    for file in files:
        found = list(verdicts(file.stem))
        if not found:
            hint = "register a member, as in @neurons.register('mine'); rules and figures alone have no laws"
            raise UsageError("the plug-in registers no member", place=str(file), hint=hint)
        for verdict in found:
            if verdict.fault or verbose:
                state = f"broken: {verdict.law} ({verdict.fault})" if verdict.fault else f"kept: {verdict.law}"
                print(f"{verdict.member}: {state}")
        faults = sum(bool(verdict.fault) for verdict in found)
        members = len({verdict.member.partition(" (")[0] for verdict in found})
        print(f"{file}: {counted(members, 'member')}, {counted(len(found), 'law')} asked, {faults} broken")
        broken += faults
    return broken


if __name__ == "__main__":
    raise SystemExit(main())
