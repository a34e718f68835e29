"""Whole numbers as a format of exports."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Generator

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError, UsageError
from snnc.feeds import Feeds
from snnc.formats.format import Format, Refusal, Written, formats, grouped
from snnc.formats.integers.interpreter import run
from snnc.formats.integers.lowering import Integers, lowered
from snnc.formats.vectors import packed
from snnc.formats.verification import Bounds, Reply
from snnc.ir import Graph
from snnc.neurons import Neuron
from snnc.ops import Weighted
from snnc.schedule import Schedule

INTEGERS_VERSION = 1

# The entry of the metadata, and of the archive, that says what the arrays are.
ENTRY = "network"


@final
@formats.register("integers")
@dataclass(frozen=True)
class IntegersFormat(Format[Integers]):
    """Weights, biases, thresholds and shifts as whole numbers (safetensors, and .npz beside it)."""

    name = "integers"
    suffix = ".integers.safetensors"
    about = (
        "whole numbers (safetensors, and .npz beside it) of a network of quantized weights: weights, biases, "
        "thresholds, shifts and widths, and what is done with them in JSON."
    )

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        _, errors = self._lowered(conversion)
        return grouped(errors)

    def write(self, conversion: Conversion) -> Written[Integers]:
        found, errors = self._lowered(conversion)
        for error in errors:
            raise error
        about = {"format": INTEGERS_VERSION, "network": fingerprint(conversion)}
        text = json.dumps({**about, **found.network, "preprocessing": conversion.preprocessing.plain()}, sort_keys=True)
        arrays = dict(found.arrays)
        archive = io.BytesIO()
        np.savez(archive, allow_pickle=False, **arrays, **{ENTRY: np.array(text)})
        widths = found.network["bits"].values()
        widest = {part: max(width[part] for width in widths) for part in ("weights", "sums", "membranes")}
        saturates = any(op.membrane_bits is not None for op in conversion.snn.ops(Neuron).values())
        bits = f"{widest['membranes']} bits"
        held = f"potentials saturate at {bits}" if saturates else f"{bits} all potentials"
        notes = (
            f"weights of {widest['weights']} bits; whatever comes in, {widest['sums']} bits hold the sums of a step, "
            f"and {held}",
        )
        return Written(
            self.name,
            "whole numbers",
            packed({name: torch.from_numpy(array) for name, array in arrays.items()}, {ENTRY: text}),
            found,
            {name: name for name in conversion.snn.without_dead().ops(Neuron)},
            facts={"bits": found.network["bits"]},
            notes=notes,
            beside={".npz": archive.getvalue()},
        )

    def _lowered(self, conversion: Conversion) -> tuple[Integers, tuple[ModelError, ...]]:
        if all(op.unit is None for op in conversion.snn.ops(Weighted).values()):
            hint = "convert with --weight-bits 8"
            raise UsageError("integers are asked for, and the network has real weights", place="--format", hint=hint)
        return lowered(conversion.snn, conversion.schedule)

    def engines(self, written: Written[Integers], conversion: Conversion) -> Iterator["Interpreter"]:
        yield Interpreter(written.file, conversion.snn, conversion.schedule)


@final
class Interpreter:
    """The reference interpreter."""

    name = "numpy interpreter"
    # Whole numbers are what they are.
    tolerance = Bounds(equal=100.0, output_error=1e-4, given="images")
    expected, note = None, ""

    def __init__(self, file: Integers, snn: Graph, schedule: Schedule) -> None:
        self.schedule = schedule
        self.layers = frozenset(snn.without_dead().ops(Neuron))
        self._file, self._snn = file, snn

    def answer(self, feeds: Feeds, generator: Generator) -> Reply:
        samples = {name: tensor.cpu().numpy() for name, tensor in feeds.items()}
        outputs, fired = run(dict(self._file.network), dict(self._file.arrays), samples)
        neurons = self._snn.ops(Neuron)
        spikes = {name: torch.from_numpy(train).float() * neurons[name].threshold for name, train in fired.items()}
        return {name: torch.from_numpy(values).float() for name, values in outputs.items()}, spikes
