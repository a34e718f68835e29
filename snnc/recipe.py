"""Recipes: YAML -> passes, strictly.

``load`` reads one that is shipped (``shipped()`` lists them) or a file, and applies what is set on top; a ``Recipe``
can also be made of passes (see ``snnc.passes``), and ``to_yaml`` writes any of them with all its options spelled out.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from snnc.conversion import Conversion
from snnc.documents import from_yaml, read_yaml, to_yaml
from snnc.errors import ModelError, UsageError
from snnc.files import at_home
from snnc.neurons.choice import chosen
from snnc.passes import Pass, passes
from snnc.registry import suggest
from snnc.schedule import Frames, Schedule, check_frames, check_shares, check_steps
from snnc.training.settings import Training
from snnc.validation import keys, parse, with_values

# The keys of a recipe that count steps, and those that say what they show, with their defaults.
_STEPS = {"timesteps": 8, "sleep": 0, "rehearsal": 0}
_SCHEDULE = {**_STEPS, "frames": "repeat", "shares": []}
# Rounds weights, and stands last: what corrects or trains after it would make real numbers of them again.
_QUANTIZE = "quantize-weights"
_ALLOCATE = "allocate-levels"
# The passes that choose thresholds for the levels there are.
_CHOOSING = {"calibrate-thresholds", "balance-thresholds"}
_SHIPPED = resources.files("snnc") / "recipes"


@dataclass(frozen=True)
class Recipe:
    """A pipeline: passes in order, the time steps they work for, and how a network is fine-tuned for them.

    ``frames`` is what more steps than there are frames show: these again, evenly spread, or the last; ``shares`` what
    of the image each step carries, where that is not the same.
    """

    name: str
    timesteps: int
    passes: tuple[Pass, ...]
    sleep: int = 0
    rehearsal: int = 0
    training: Training | None = None
    frames: Frames = "repeat"
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_steps(self.timesteps, self.sleep, self.rehearsal)
        check_frames(self.frames)
        check_shares(self.shares, self.timesteps)
        for index, step in enumerate(self.passes):
            if not isinstance(step, Pass):
                hint = 'make one: snnc.passes.passes["fold-batch-norm"]()'
                raise UsageError(f"expected a pass, found {step!r}", place=f"passes[{index}]", hint=hint)

    @property
    def schedule(self) -> Schedule:
        """How long the network runs."""
        return Schedule(self.timesteps, self.sleep, self.rehearsal, frames=self.frames, shares=self.shares)

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain data, every option spelled out; ``from_plain`` reads it back."""
        return {
            "name": self.name,
            **{name: _written(getattr(self, name)) for name in _SCHEDULE},
            "passes": [{pass_name(p): options(p)} for p in self.passes],
            **({} if self.training is None else {"training": options(self.training)}),
        }

    def to_yaml(self) -> str:
        """Return the recipe as the text of a file."""
        return to_yaml(self.plain())


def shipped() -> list[str]:
    """Return the names of the recipes inside the package."""
    return sorted(Path(entry.name).stem for entry in _SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def introduction(name: str) -> str:
    """Return what a recipe inside the package says of itself, above all else."""
    lines = (_SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(
        line.removeprefix("#").strip() for line in itertools.takewhile(lambda line: line[:1] == "#", lines)
    )


def load(
    recipe: str,
    *,
    timesteps: int | None = None,
    sleep: int | None = None,
    frames: str | None = None,
    shares: Sequence[float] | None = None,
    neuron: str | None = None,
    weight_bits: int | None = None,
    membrane_bits: int | None = None,
    mixed_levels: bool = False,
    overrides: Sequence[str] = (),
) -> Recipe:
    """Read a shipped recipe by name or a file by path, then apply what the user sets on top.

    ``weight_bits`` are those of quantize-weights, which is appended where the recipe lacks it, and ``membrane_bits``
    those at which neurons saturate then; ``mixed_levels`` puts allocate-levels before thresholds are chosen, where it
    is not yet. ``overrides`` are ``passes.PASS.OPTION=VALUE`` (VALUE as in YAML), ``training.OPTION=VALUE``, or
    ``timesteps=N``.
    Raises UsageError with the path into the recipe.
    """
    if recipe in shipped():
        data, place = from_yaml((_SHIPPED / f"{recipe}.yaml").read_text(encoding="utf-8"), place=recipe), ""
    elif Path(recipe).suffix in {".yaml", ".yml"}:
        data, place = read_yaml(at_home(Path(recipe))), recipe
    else:
        hint = f"{suggest(recipe, shipped())} (or give a .yaml file)"
        raise UsageError(f"unknown recipe {recipe!r}", hint=hint)
    steps = {"timesteps": timesteps, "sleep": sleep, "frames": frames, "shares": shares}
    flags = _Flags(neuron, weight_bits, membrane_bits, mixed_levels)
    return _overridden(_mapping(data, place or "recipe"), steps, flags, overrides, place)


def override(
    recipe: Recipe,
    *,
    timesteps: int | None = None,
    sleep: int | None = None,
    frames: str | None = None,
    shares: Sequence[float] | None = None,
    neuron: str | None = None,
    weight_bits: int | None = None,
    membrane_bits: int | None = None,
    mixed_levels: bool = False,
    overrides: Sequence[str] = (),
) -> Recipe:
    """Apply to a recipe what the user sets on top, as ``load`` does."""
    steps = {"timesteps": timesteps, "sleep": sleep, "frames": frames, "shares": shares}
    return _overridden(recipe.plain(), steps, _Flags(neuron, weight_bits, membrane_bits, mixed_levels), overrides, "")


def reset_to_zero(recipe: Recipe) -> Recipe:
    """Return a recipe for neurons that are reset to zero: they take the place of the others, and are calibrated.

    What came behind substitute-neurons was worked out for the others, and gives way to a correction of biases. Raises
    UsageError where the recipe substitutes no neurons.
    """
    names = [pass_name(step) for step in recipe.passes]
    if "substitute-neurons" not in names:
        hint = "add substitute-neurons to the recipe"
        raise UsageError("the recipe puts in no neurons that could be reset", place="--reset", hint=hint)
    before = recipe.passes[: names.index("substitute-neurons")]
    behind: list[dict[str, Any]] = [
        {"substitute-neurons": {"neuron": "if-zero"}},
        {"calibrate-hard-reset": {}},
        {"correct-spiking-residual": {"potential": False}},
    ]
    listed = [*({pass_name(step): options(step)} for step in before), *behind]
    return from_plain({**recipe.plain(), "sleep": 0, "rehearsal": 0, "passes": listed})


def from_plain(data: object, *, place: str = "") -> Recipe:
    """Build a recipe from plain data; raises UsageError with the path of the first problem."""
    prefix = f"{place}: " if place else ""
    fields = _mapping(data, place or "recipe")
    for key in fields:
        if key not in keys(Recipe):
            raise UsageError(f"unknown option {key!r}", place=f"{prefix}recipe", hint=suggest(str(key), keys(Recipe)))
    listed = fields.get("passes")
    if not isinstance(listed, list) or not listed:
        raise UsageError("a recipe needs passes", place=f"{prefix}passes", hint=f"known: {', '.join(passes)}")
    steps = {name: fields.get(name, default) for name, default in _STEPS.items()}
    check_steps(**steps, prefix=prefix)
    shown = fields.get("frames", _SCHEDULE["frames"])
    check_frames(shown, prefix=prefix)
    shares = check_shares(fields.get("shares", ()), steps["timesteps"], prefix=prefix)
    built = tuple(_pass(entry, f"{prefix}passes[{index}]") for index, entry in enumerate(listed))
    training = parse(Training, fields["training"], place=f"{prefix}training") if "training" in fields else None
    return Recipe(
        str(fields.get("name", "unnamed")), passes=built, training=training, frames=shown, shares=shares, **steps
    )


def recorded(conversion: Conversion) -> Recipe:
    """Return the recipe that a conversion was made by; raises ModelError where its file holds no such recipe."""
    try:
        return from_plain(conversion.provenance.recipe, place="recipe in the .snn file")
    except UsageError as error:
        raise ModelError(f"damaged .snn file: {error.message}", place=error.place, hint="convert again") from None


def options(step: Pass | Training) -> dict[str, Any]:
    """Return the options of a pass or of a training as users write them."""
    return {field.name.replace("_", "-"): _written(getattr(step, field.name)) for field in dataclasses.fields(step)}


def _written(value: object) -> object:
    """Return an option's value as YAML and JSON have it, so that what is written is what is read."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _pass(entry: object, place: str) -> Pass:
    if isinstance(entry, str):
        entry = {entry: {}}
    if not isinstance(entry, Mapping) or len(entry) != 1:
        hint = "write '- name' or '- name: {option: value}'"
        raise UsageError(f"expected one pass, found {entry!r}", place=place, hint=hint)
    ((name, given),) = entry.items()
    if name not in passes:
        raise UsageError(f"unknown pass {name!r}", place=place, hint=suggest(str(name), passes))
    step = parse(passes[str(name)], given, place=f"{place}.{name}")
    try:
        json.dumps(options(step), allow_nan=False)
    except (TypeError, ValueError):
        hint = "texts, finite numbers, true, false, lists and mappings of such"
        raise UsageError("an option that no file can hold", place=f"{place}.{name}", hint=hint) from None
    return step


def pass_name(step: Pass) -> str:
    """Return the name under which a pass is registered."""
    return next(name for name, kind in passes.items() if type(step) is kind)


def _mapping(data: object, place: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise UsageError("a recipe is a mapping", place=place, hint=f"keys: {', '.join(keys(Recipe))}")
    return data


class _Flags(NamedTuple):
    """What flags of their own change in passes."""

    neuron: str | None
    weight_bits: int | None
    membrane_bits: int | None
    mixed_levels: bool


def _overridden(
    data: Mapping[str, Any], steps: Mapping[str, object], flags: _Flags, overrides: Sequence[str], place: str
) -> Recipe:
    if overrides or flags != _Flags(None, None, None, False):
        # What is set on top is set in a well-formed recipe.
        from_plain(data, place=place)
    if flags.weight_bits is not None:
        if not any(_QUANTIZE in entry for entry in _entries(data)):
            data = {**data, "passes": [*_entries(data), {_QUANTIZE: {}}]}
        data = _set(data, f"passes.{_QUANTIZE}.bits={flags.weight_bits}")
    if flags.membrane_bits is not None:
        if not any(_QUANTIZE in entry for entry in _entries(data)):
            hint = "add --weight-bits 8"
            raise UsageError("membranes of some bits hold whole numbers only", place="--membrane-bits", hint=hint)
        data = _set(data, f"passes.{_QUANTIZE}.membrane-bits={flags.membrane_bits}")
    if flags.mixed_levels:
        data = _with_mixed_levels(data)
    for setting in overrides:
        data = _set(data, setting)
    if flags.neuron is not None:
        chosen(flags.neuron, place="--neuron")
        data = _set(data, f"passes.substitute-neurons.neuron={flags.neuron}")
    data = {**data, **{name: value for name, value in steps.items() if value is not None}}
    return from_plain(data, place=place)


def _with_mixed_levels(data: Mapping[str, Any]) -> Mapping[str, Any]:
    entries = _entries(data)
    if any(_ALLOCATE in entry for entry in entries):
        return data
    at = next((index for index, entry in enumerate(entries) if _CHOOSING.intersection(entry)), None)
    if at is None:
        hint = f"add one of {', '.join(sorted(_CHOOSING))} to it"
        raise UsageError("the recipe chooses no thresholds that levels could be mixed for", place="passes", hint=hint)
    return {**data, "passes": [*entries[:at], {_ALLOCATE: {}}, *entries[at:]]}


def _entries(data: Mapping[str, Any]) -> list[Mapping[Any, Any]]:
    """Return the passes as written, each with its options."""
    return [entry if isinstance(entry, Mapping) else {entry: {}} for entry in data.get("passes") or []]


def _set(data: Mapping[str, Any], setting: str) -> Mapping[str, Any]:
    path, equals, text = setting.partition("=")
    parts = path.strip().split(".")
    if not equals:
        raise UsageError(f"expected KEY=VALUE, found {setting!r}", place="--set", hint="passes.PASS.OPTION=VALUE")
    try:
        value = from_yaml(text, place="--set")
    except UsageError:
        raise UsageError(f"{text!r} is no YAML value", place=f"--set {path}", hint="quote it") from None
    if path.strip() in _SCHEDULE:
        return {**data, path.strip(): value}
    if len(parts) == 2 and parts[0] == "training":
        return {**data, "training": with_values(data.get("training"), {parts[1]: value})}
    if len(parts) != 3 or parts[0] != "passes":
        hint = "passes.PASS.OPTION=VALUE, training.OPTION=VALUE or timesteps=N"
        raise UsageError(f"unknown option {path!r}", place="--set", hint=hint)
    _, wanted, option = parts
    entries = _entries(data)
    if not any(wanted in entry for entry in entries):
        named = [str(name) for entry in entries for name in entry]
        raise UsageError(f"no pass {wanted!r} in the recipe", place=f"--set {path}", hint=suggest(wanted, named))
    changed = [{wanted: with_values(entry[wanted], {option: value})} if wanted in entry else entry for entry in entries]
    return {**data, "passes": changed}
