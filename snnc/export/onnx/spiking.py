"""A converted network as an ONNX file that says of itself what it is and what it was made from."""

import dataclasses
import json

from snnc.artifact import fingerprint
from snnc.conversion import Conversion
from snnc.errors import ModelError
from snnc.export.onnx.lowering import SpikingFile
from snnc.export.onnx.step import step_model
from snnc.export.onnx.train import train_model

FORMAT_VERSION = 1

# What one message of protobuf, and with it one ONNX file without others beside it, can hold.
_LARGEST = 2**31 - 1


def spiking_file(conversion: Conversion, *, step: bool = False) -> SpikingFile:
    """Write the spiking network of a conversion: whole trains, or one time ``step``.

    The same conversion gives the same bytes. Raises ModelError that names the node for what nobody has written for
    ONNX, for a step of neurons that have none, and where the file would be larger than ONNX allows.
    """
    calibration = conversion.provenance.calibration
    properties = {
        "snnc.format": str(FORMAT_VERSION),
        "snnc.kind": "step" if step else "train",
        "snnc.schedule": _plain(dataclasses.asdict(conversion.schedule)),
        "snnc.preprocessing": _plain(conversion.preprocessing.plain()),
        "snnc.network.sha256": fingerprint(conversion),
        "snnc.model.sha256": conversion.provenance.model.sha256,
        **({"snnc.calibration.sha256": calibration.sha256} if calibration else {}),
    }
    file = (step_model if step else train_model)(conversion.snn, conversion.schedule, properties)
    if file.model.ByteSize() > _LARGEST:
        raise ModelError("ONNX files hold 2 GiB at most", hint="export a smaller network")
    return file


def _plain(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
