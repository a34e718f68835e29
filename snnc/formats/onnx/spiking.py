"""A converted network as an ONNX file that says of itself what it is and what it was made from."""

import dataclasses
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, final

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError, UsageError
from snnc.figure import ExitRule
from snnc.formats.format import Format, Refusal, Written, formats, grouped, raised
from snnc.formats.onnx.engine import Onnxruntime
from snnc.formats.onnx.lowering import OPSET, SpikingFile, form
from snnc.formats.onnx.operations import spelled
from snnc.formats.onnx.step import check_step, step_model
from snnc.formats.onnx.train import train_model
from snnc.ir import Graph, Input, Node
from snnc.neurons import Neuron
from snnc.neurons.base import retimed
from snnc.neurons.temporal_bias import TemporalBias
from snnc.schedule import check_steps
from snnc.validation import Option

ONNX_VERSION = 1

# What one message of protobuf, and with it one ONNX file without others beside it, can hold.
_LARGEST = 2**31 - 1


@final
@formats.register("onnx")
@dataclass(frozen=True)
class OnnxFormat(Format[SpikingFile]):
    """Standard operations of ONNX; one file serves every number of time steps."""

    step: Annotated[
        bool, Option("Write one time step, states in and out, for hosts that keep the loop; else whole trains.")
    ] = False
    exit_early: Annotated[
        bool,
        Option(
            "Say after each step whether the answer is certain, by the rule of snnc evaluate --exit-confidence: the "
            "output 'certain'.",
            needs="--step",
        ),
    ] = False
    stream: Annotated[
        bool,
        Option("Write one time step that goes on from frame to frame of a stream, shown what changed."),
    ] = False
    timesteps: Annotated[
        tuple[int, ...],
        Option("With --verify: time steps. Default: what it was converted for.", "T,T,...", needs="--verify"),
    ] = ()

    name = "onnx"
    suffix = ".spiking.onnx"
    about = "standard operations only, which plain onnxruntime runs."

    def refusals(self, conversion: Conversion) -> tuple[Refusal, ...]:
        graph = conversion.snn.without_dead()
        return grouped(raised(functools.partial(self._check, graph, node) for node in graph.nodes.values()))

    def write(self, conversion: Conversion) -> Written[SpikingFile]:
        own = conversion.schedule
        for steps in self.timesteps:
            check_steps(steps, own.sleep, own.rehearsal, prefix="--")
            timed = retimed(conversion.snn, own, own.over(steps)) is not conversion.snn
            if steps != own.timesteps and (timed or own.shares):
                what = "levels of neurons" if timed else "shares of the image"
                hint = f"leave it out, or convert for it: snnc convert --timesteps {steps}"
                message = f"the {what} are those of T={own.timesteps}, not {steps}"
                raise UsageError(message, place="--timesteps", hint=hint)
        if self.stream and self.exit_early:
            hint = "leave out one of them"
            raise UsageError("a stream that goes on does not stop early", place="--exit-early", hint=hint)
        exits = self._rule(conversion) if self.exit_early else None
        file = spiking_file(conversion, step=self.step, stream=self.stream, exits=exits)
        data = file.model.SerializeToString(deterministic=True)
        variant = "one step of a stream" if self.stream else "one step" if self.step else "whole trains"
        return Written(self.name, variant, data, file, file.trains, file.means)

    def engines(self, written: Written[SpikingFile], conversion: Conversion) -> Iterator[Onnxruntime]:
        own = conversion.schedule
        for steps in self.timesteps or (own.timesteps,):
            yield Onnxruntime(written.file, written.data, conversion.snn, own.over(steps), conversion.exit)

    def _rule(self, conversion: Conversion) -> ExitRule:
        if not self.step:
            hint = "add --step, or leave it out"
            raise UsageError("a file of whole trains does not stop early", place="--exit-early", hint=hint)
        return conversion.exit_rule("--exit-early")

    def _check(self, graph: Graph, node: Node) -> None:
        if isinstance(node.op, Neuron):
            found = form(node)
            if self.step or self.stream:
                check_step(node, found)
            if self.stream and not node.op.follows:
                hint = "convert with --neuron graded, or leave out --stream"
                raise ModelError(f"{found.name} cannot take back what it fired", place=node.name, hint=hint)
        elif not isinstance(node.op, Input | TemporalBias):
            spelled(graph, node, OPSET)


def spiking_file(
    conversion: Conversion, *, step: bool = False, stream: bool = False, exits: ExitRule | None = None
) -> SpikingFile:
    """Write the spiking network of a conversion: whole trains, one time ``step``, or one of a ``stream``.

    The rule ``exits`` ends the steps of a run.

    The same conversion gives the same bytes. Raises ModelError that names the node for what nobody has written for
    ONNX, for a step of neurons that have none, and where the file would be larger than ONNX allows; UsageError for a
    stream of a network that rehearses.
    """
    if stream and conversion.schedule.rehearsal:
        hint = "convert without --rehearsal, or leave out --stream"
        raise UsageError("a stream has no rehearsal", place="--stream", hint=hint)
    described = properties(conversion, "stream" if stream else "step" if step else "train")
    if exits is not None:
        described["snnc.exit"] = _plain(dataclasses.asdict(exits))
    if step or stream:
        file = step_model(conversion.snn, conversion.schedule, described, exits=exits, stream=stream)
    else:
        file = train_model(conversion.snn, conversion.schedule, described)
    if file.model.ByteSize() > _LARGEST:
        raise ModelError("ONNX files hold 2 GiB at most", hint="export a smaller network")
    return file


def properties(conversion: Conversion, kind: str) -> dict[str, str]:
    """Return what a file says of itself: of which ``kind`` it is, and what it was made from."""
    calibration = conversion.provenance.calibration
    return {
        "snnc.format": str(ONNX_VERSION),
        "snnc.kind": kind,
        "snnc.schedule": _plain(dataclasses.asdict(conversion.schedule)),
        "snnc.preprocessing": _plain(conversion.preprocessing.plain()),
        "snnc.network.sha256": fingerprint(conversion),
        "snnc.model.sha256": conversion.provenance.model.sha256,
        **({"snnc.calibration.sha256": calibration.sha256} if calibration else {}),
    }


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
