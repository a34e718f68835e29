"""Registries: filled whole, or they raise again."""

import dataclasses
import sys
from pathlib import Path

import pytest

from snnc import ops
from snnc.errors import UsageError
from snnc.ir import operation, operations
from snnc.neurons import Neuron, neurons
from snnc.registry import Registry


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> Registry[object]:
    (folder / "members").mkdir()
    (folder / "members" / "__init__.py").write_text(
        'from snnc.registry import Registry\nmembers: Registry[object] = Registry("member", __name__)\n'
    )
    for name, text in modules.items():
        (folder / "members" / f"{name}.py").write_text(f"from members import members\n{text}\n")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "members"]:
        monkeypatch.delitem(sys.modules, name)
    return __import__("members").members  # type: ignore[no-any-return]


def test_a_module_that_fails_fails_every_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = '@members.register("a")\nclass A: ...'
    registry = package(tmp_path, monkeypatch, a=good, b="raise RuntimeError('broken')")
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            registry["a"]
    (tmp_path / "members" / "b.py").write_text("# mended, and longer than before so that it is compiled anew\n")
    assert list(registry) == ["a"]


def test_a_module_that_registers_and_then_fails_may_be_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '@members.register("a")\nclass A: ...\nraise RuntimeError("late")'
    registry = package(tmp_path, monkeypatch, a=text)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="late"):
            len(registry)


def test_names_are_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '@members.register("a")\nclass {}: ...'
    registry = package(tmp_path, monkeypatch, a=text.format("A"), b=text.format("B"))
    with pytest.raises(ValueError, match="another member"):
        len(registry)


def test_an_unknown_name_is_an_error_with_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = package(tmp_path, monkeypatch, a='@members.register("right")\nclass A: ...')
    with pytest.raises(UsageError, match="unknown member 'rihgt'") as caught:
        registry["rihgt"]
    assert "right" in caught.value.hint


def test_a_registry_may_be_filled_by_several_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, monkeypatch, a='@members.register("a")\nclass A: ...')
    module = 'from members import several\n@several.register("b")\nclass B: ...\n'
    (tmp_path / "others.py").write_text(module)
    several: Registry[object] = Registry("member", "members", "others")
    monkeypatch.setattr(__import__("members"), "several", several, raising=False)
    monkeypatch.delitem(sys.modules, "others", raising=False)
    assert list(several) == ["b"]


def test_operations_are_known_by_the_name_of_their_class() -> None:
    assert {"Input", "Conv", "IntegrateAndFire", "TemporalBias"} <= set(operations)
    for name, kind in operations.items():
        assert kind.__name__ == name
        assert getattr(kind, "__final__", False), f"{name} is neither abstract nor final"
        assert not getattr(kind, "__abstractmethods__", None), name
        # Registered for what it is, and not for what it was before a decorator made it a dataclass.
        assert dataclasses.is_dataclass(kind), name
    assert set(neurons.values()) == {kind for kind in operations.values() if issubclass(kind, Neuron)}


def test_two_operations_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="another operation is called 'Conv'"):

        @operation
        class Conv(ops.Op): ...
