"""The parts of the guide that the code knows: what there is to choose from, with options, and what works with what."""

import ast
import dataclasses
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from snnc.actions.members import members
from snnc.analysis.work import work
from snnc.data.audio_windows import AudioWindows
from snnc.data.event_frames import EventFrames
from snnc.data.preprocessing import Preprocessing
from snnc.findings import EXPLANATIONS
from snnc.formats.c.operations import kernels
from snnc.formats.format import formats
from snnc.formats.integers.lowering import firings as integer_firings
from snnc.formats.integers.lowering import lowerings as integer_lowerings
from snnc.formats.nir.lowering import firings as nir_firings
from snnc.formats.nir.lowering import lowerings as nir_lowerings
from snnc.formats.onnx.neurons import forms
from snnc.formats.onnx.operations import writers
from snnc.frontend.operators import operators
from snnc.frontend.reasons import refused
from snnc.hardware.fit import holds
from snnc.hardware.target import load_target, target_names
from snnc.ir import Input, operations
from snnc.measure.figures import limits, tolerances
from snnc.neurons import CausalNeuron, neurons
from snnc.neurons.choice import options_of
from snnc.passes import passes
from snnc.registry import Registry
from snnc.rules import Rules
from snnc.tasks import tasks
from snnc.training.settings import Training
from snnc.validation import Option

# What stands in the guide for a part, by its name there.
parts: Registry[Callable[[], str]] = Registry("part of the guide", plugins=False)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _option_list(form: type[Any]) -> str:
    """Return the options of a dataclass as a list: how each is written, what it may be, and what it means."""
    said, hints = _meanings(form), get_type_hints(form)
    return "\n".join(
        f"- `{field.name.replace('_', '-')}` ({_kind(hints[field.name])}; {_default(field)})"
        + (f": {said[field.name]}" if field.name in said else "")
        for field in dataclasses.fields(form)
    )


@parts.register("recipes")
def _recipes() -> str:
    found = members("recipes")
    return _table(("recipe", "what it is"), ((f"`{one.name}`", one.about) for one in found))


@parts.register("passes")
def _passes() -> str:
    return "\n\n".join(_described(name, kind, kind) for name, kind in passes.items())


@parts.register("neurons")
def _neurons() -> str:
    return "\n\n".join(_described(name, kind, options_of(kind)) for name, kind in neurons.items())


@parts.register("tasks")
def _tasks() -> str:
    return "\n\n".join(_described(name, kind, kind) for name, kind in tasks.items())


@parts.register("formats")
def _formats() -> str:
    rows = [
        (f"`{name}`", kind.about, f"`{kind.suffix}`", kind.extra and f"`snnc[{kind.extra}]`")
        for name, kind in formats.items()
    ]
    options = [f"### {name}\n\n{listed}" for name, kind in formats.items() if (listed := _option_list(kind))]
    return "\n\n".join((_table(("format", "what is written", "suffix", "needs"), rows), *options))


@parts.register("sources")
def _sources() -> str:
    return _table(("source", "what it reads"), ((f"`{one.name}`", one.about) for one in members("sources")))


@parts.register("gates")
def _gates() -> str:
    rows = [(f"`{n}`", known[0].help, f"`{known[0].example}`", known[0].lacking) for n, known in limits().items()]
    return _table(("gate", "what it holds", "for example", "without that: why it cannot be judged"), rows)


@parts.register("tolerances")
def _tolerances() -> str:
    rows = [(f"`--{name.replace('_', '-')}`", one.help, f"{one.default:g}") for name, one in tolerances().items()]
    return _table(("option of snnc diff", "what is allowed", "default"), rows)


@parts.register("findings")
def _findings() -> str:
    told = sorted(EXPLANATIONS.items())
    return "\n\n".join(f"### {code}\n\n{x.cause} {x.effect}\n\nWhat to do: {x.remedy}" for code, x in told)


@parts.register("imported")
def _imported() -> str:
    return ", ".join(f"`{name}`" for name in operators)


@parts.register("refused")
def _refused() -> str:
    rows = [(", ".join(f"`{name}`" for name in names), why, hint) for names, why, hint in refused()]
    return _table(("operations", "why they cannot spike", "what to do"), rows)


@parts.register("operations")
def _operations() -> str:
    """Tell which tables have a rule for an operation, and which refuse it; torch runs whatever runs here."""
    asked: tuple[tuple[str, Rules[Any, Any]], ...] = (
        ("work", work),
        ("ONNX", writers),
        ("NIR", nir_lowerings),
        ("C", kernels),
        ("integers", integer_lowerings),
        ("chips", holds),
    )
    stateless = [(name, kind) for name, kind in operations.items() if name not in _neuron_names() and kind is not Input]
    rows = [(f"`{name}`", _about(kind), *(_answer(rules, kind) for _, rules in asked)) for name, kind in stateless]
    return _table(("operation", "what it computes", *(title for title, _ in asked)), rows)


@parts.register("firing")
def _firing() -> str:
    asked: tuple[tuple[str, Rules[Any, Any]], ...] = (
        ("ONNX", forms),
        ("NIR", nir_firings),
        ("integers", integer_firings),
        ("chips", holds),
    )
    rows = [
        (f"`{name}`", "yes" if issubclass(kind, CausalNeuron) else "no", *(_answer(rules, kind) for _, rules in asked))
        for name, kind in neurons.items()
    ]
    return _table(("neuron", "fires while it gathers", *(title for title, _ in asked)), rows)


@parts.register("targets")
def _targets() -> str:
    found = [load_target(name) for name in target_names()]
    return "\n".join(
        f"- `{one.name}`: {one.title}; limits from "
        + "; ".join(f"[{page.document}]({page.url})" for page in one.documents.values())
        for one in found
    )


@parts.register("papers")
def _papers() -> str:
    """Tell the entries of papers.bib as a list, each with where it can be read."""
    text = resources.files("snnc").joinpath("papers.bib").read_text(encoding="utf-8")
    return "\n".join(f"- {_paper(dict(_FIELD.findall(entry)))}" for entry in re.split(r"\n(?=@)", text)[1:])


for _name, _form in {
    "preprocessing": Preprocessing,
    "event-frames": EventFrames,
    "audio-windows": AudioWindows,
    "training": Training,
}.items():
    parts.register(_name)(partial(_option_list, _form))

_FIELD = re.compile(r"^ *(\w+) = \{((?:[^{}]|\{[^{}]*\})*)\},$", re.MULTILINE)


def _paper(entry: dict[str, str]) -> str:
    plain = {name: " ".join(re.sub(r"[{}]|\\.", "", value).split()) for name, value in entry.items()}
    doi = plain.get("doi") or (f"10.48550/arXiv.{plain['eprint']}" if "eprint" in plain else "")
    venue = plain.get("booktitle") or plain.get("journal") or "arXiv"
    authors = plain["author"].replace(" and others", ", et al").replace(" and ", ", ")
    where = f" [doi:{doi}](https://doi.org/{doi})" if doi else ""
    return f"{plain['cited']}: {authors}. *{plain['title']}*. {venue}, {plain['year']}.{where}"


def _described(name: str, member: type[Any], form: type[Any]) -> str:
    """Tell what a member is, in the words of its file and its own, and its options."""
    written = {field.metadata.get("field", field.name): field.name for field in dataclasses.fields(form)}
    texts = (inspect.getdoc(inspect.getmodule(member)), inspect.getdoc(member))
    said = "\n\n".join(_prose(text, written) for text in texts if text)
    options = _option_list(form) if written else ""
    return "\n\n".join(part for part in (f"### {name}", said, options) if part)


def _prose(text: str, written: Mapping[str, str]) -> str:
    """Return a docstring as Markdown, with options as they are written; what is indented stays so."""
    for field, option in written.items():
        text = text.replace(f"``{field}``", f"``{option.replace('_', '-')}``")
    return text.replace("``", "`")


def _about(kind: type[Any]) -> str:
    return _prose((inspect.getdoc(kind) or "").partition("\n\n")[0], {})


def _answer(rules: Rules[Any, Any], kind: type[Any]) -> str:
    return "no" if rules.refuses(kind) else "" if rules.missing([kind]) else "yes"


def _neuron_names() -> set[str]:
    return {kind.__name__ for kind in neurons.values()}


def _kind(hint: Any) -> str:
    """Return what values an option has, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(map(_kind, inner))
    if origin is tuple:
        return f"list of {_kind(inner[0])}" if ... in inner else f"list of {len(inner)}"
    return _KINDS.get(hint, "mapping")


_KINDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
    str: "text",
    Path: "file",
    NoneType: "none",
}


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
        return "to be given"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    if value in (None, [], "", dataclasses.MISSING):
        return "default: none"
    return f"default: `{value if isinstance(value, str) else json.dumps(value)}`"


def _meanings(form: type[Any]) -> dict[str, str]:
    """Return what a dataclass says of its fields: in an Option, or in the text below each."""
    hints = get_type_hints(form, include_extras=True)
    said = {
        name: one.help
        for name, hint in hints.items()
        for one in getattr(hint, "__metadata__", ())
        if isinstance(one, Option)
    }
    return said | dict(_below(form, {name: name for name in hints}))


def _below(form: type[Any], written: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the fields of a dataclass that have a text of their own, and that text."""
    try:
        source = textwrap.dedent(inspect.getsource(form))
    except (OSError, TypeError):
        # Made where it is used, as the options of neurons are.
        return
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            yield ast.unparse(field.target), " ".join(_prose(str(text.value.value), written).split())
