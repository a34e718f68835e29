"""All kinds of inputs."""

from tests.fuzz import artifacts, data, documents, onnx_files
from tests.fuzz.oracle import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (onnx_files.KIND, artifacts.KIND, *documents.KINDS, *data.KINDS)}
