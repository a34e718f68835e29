"""What others add: modules that register operations, rules, neurons, passes and more, in snnc's own registries.

A plug-in is a file, or an installed package that names its module by an entry point of the group ``snnc.plugins``. It
is called by the name of its file without suffix, or of its package.
"""

import functools
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snnc.errors import UsageError

GROUP = "snnc.plugins"
# Where files stand among the modules, so that none of them hides a module that has its name.
_FILES = "snnc_plugins."


def load(files: Iterable[Path]) -> None:
    """Run the files of plug-ins, each once; raises UsageError where one cannot be run, or two have one name."""
    known: dict[str, Path] = {}
    for path in files:
        other = known.setdefault(path.stem, path)
        if other.resolve() != path.resolve():
            hint = "rename one of them: networks call a plug-in by the name of its file"
            raise UsageError(f"two plug-ins are called {path.stem!r}", place=f"{other}, {path}", hint=hint)
        if path.suffix != ".py" or not path.is_file():
            reason = "no such file" if path.suffix == ".py" else "not a Python file"
            hint = "name a file that registers something: --plugin FILE.py, or plugins: in snnc.yaml"
            raise UsageError(f"cannot load the plug-in: {reason}", place=str(path), hint=hint)
        _run(path)


def load_installed() -> None:
    """Import what installed packages add; raises UsageError where one of them cannot be imported."""
    for package, module in _installed():
        try:
            importlib.import_module(module)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            hint = f"mend or uninstall {package}"
            raise UsageError(f"cannot load the plug-in: {_reason(error)}", place=module, hint=hint) from error


def origin(member: Any) -> str:
    """Return the name of the plug-in that a class or function is defined in; "" for what is part of snnc or Python."""
    module: str = member.__module__
    if module.startswith(_FILES):
        return module.removeprefix(_FILES)
    root = module.partition(".")[0]
    if root == "__main__":
        return Path(getattr(sys.modules[root], "__file__", None) or root).stem
    return "" if root in (__name__.partition(".")[0], "builtins") else root


def is_loaded(name: str) -> bool:
    """Return whether the plug-in of a name is there, as a file that was run or as a module that was imported."""
    load_installed()
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or "").stem
    return name == main or f"{_FILES}{name}" in sys.modules or name in sys.modules


def _run(path: Path) -> None:
    name = f"{_FILES}{path.stem}"
    held = sys.modules.get(name)
    if held is not None and held.__file__ == str(path.resolve()):
        return
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, KeyboardInterrupt):
            raise
        line = _line(error, path)
        hint = f"mend it: python {path.name} shows where it fails"
        place = f"{path}:{line}" if line else str(path)
        raise UsageError(f"cannot load the plug-in: {_reason(error)}", place=place, hint=hint) from error


def loaded() -> list[str]:
    """Return the files of plug-ins that were run, as they are called from here."""
    return [str(_seen(str(module.__file__))) for name, module in sys.modules.items() if name.startswith(_FILES)]


def fault(error: BaseException) -> UsageError | None:
    """Return the error that a plug-in failed, at the line of it that ran where one was raised; None where none ran."""
    roots = {module.partition(".")[0] for _, module in _installed()}
    cause: BaseException | None = error
    while cause is not None:
        for frame, line in reversed([*traceback.walk_tb(cause.__traceback__)]):
            module = str(frame.f_globals.get("__name__"))
            if module.startswith(_FILES) or module.partition(".")[0] in roots:
                place = _seen(frame.f_code.co_filename)
                asked = f": python -m snnc.laws {place} asks of it what all have to obey"
                hint = f"mend it{asked if module.startswith(_FILES) else ''}"
                return UsageError(f"the plug-in failed: {_reason(cause)}", place=f"{place}:{line}", hint=hint)
        cause = cause.__cause__ or cause.__context__
    return None


def _seen(path: str) -> Path:
    """Return a path as it is called from the working folder, where it is below that."""
    file = Path(path)
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def _line(error: BaseException, path: Path) -> int | None:
    file = str(path.resolve())
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@functools.cache
def _installed() -> tuple[tuple[str, str], ...]:
    """Return the packages that name a plug-in, and its module; looked for once, because that reads many files."""
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP)
    return tuple(sorted((point.dist.name if point.dist else point.name, point.module) for point in found))
