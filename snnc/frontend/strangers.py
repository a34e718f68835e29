"""Files that are given for a network and are none, or none that is read here: what they are, and the way from there."""

import io
import zipfile
from pathlib import Path

_EXPORT = "load it where it was made, and write it with torch.onnx.export"
_TENSORFLOW = "convert it: python -m tf2onnx.convert --{option} {name} --output model.onnx"
_PROGRAM = "write it as ONNX: torch.onnx.export(torch.export.load({name!r}), f='model.onnx')"
_PAGE = "download the file itself, not the page that shows it (on GitHub 'raw', on Hugging Face 'download')"
_UNPACK = "unpack it, and give the model inside"

# Where a file has which bytes, what it is, and what helps; {name} is that of the file.
_BYTES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com", "a pointer of Git LFS in place of the file", "fetch it: git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes", _TENSORFLOW.replace("{option}", "keras")),
    (4, b"TFL3", "a TensorFlow Lite model", _TENSORFLOW.replace("{option}", "tflite")),
    (4, b"ORTM", "a model in onnxruntime's own format", "give the ONNX file that it was made from"),
    (0, b"GGUF", "a GGUF file of weights", "export the network that they belong to as ONNX"),
    (0, b"\x93NUMPY", "an array of numpy", "it is data: give it as --data, and a network as the model"),
    (0, b"\x89PNG", "a picture", "give a network as the model"),
    (0, b"\xff\xd8\xff", "a picture", "give a network as the model"),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
)
# Beginnings of text, in lower case and without the space in front.
_TEXT: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype html", "an HTML page in place of the file", _PAGE),
    (b"<html", "an HTML page in place of the file", _PAGE),
    (b"<?xml", "an XML file, as OpenVINO writes", "give the ONNX file that it was made from"),
    (b"{", "a JSON file", "give a network as the model; a download that failed reads like this, too"),
)
# Names inside an archive, by their ends.
_INSIDE: tuple[tuple[str, str, str], ...] = (
    ("serialized_exported_program.json", "an exported program (torch.export.save)", _PROGRAM),
    ("models/model.json", "an exported program (torch.export.save)", _PROGRAM),
    ("model.weights.h5", "a Keras model", "in Keras: model.export('model.onnx', format='onnx'), or use tf2onnx"),
    (".npy", "arrays of numpy", "they are data: give them as --data, and a network as the model"),
    (".onnx", "a zip archive", _UNPACK),
)
# What is known by the end of its name alone.
_SUFFIXES = {
    ".mlmodel": ("a Core ML model", "give the model that it was made from"),
    ".pb": ("a TensorFlow graph", _TENSORFLOW.replace("{option}", "graphdef") + " --inputs ... --outputs ..."),
    ".caffemodel": ("the weights of a Caffe network", "convert it to ONNX where Caffe is"),
    ".weights": ("the weights of a Darknet network", "export the network that they belong to as ONNX"),
}
# Folders that are a model, by what is in them.
BUNDLES = {
    "saved_model.pb": (
        "a folder of TensorFlow (SavedModel)",
        "convert it: python -m tf2onnx.convert --saved-model FOLDER --output model.onnx",
    ),
    "Manifest.json": ("a folder of Core ML (mlpackage)", "give the model that it was made from"),
}
_HEAD = 512


def stranger(path: Path, data: bytes) -> tuple[str, str] | None:
    """Return what a file is that is no network to be read, and what helps; None where it may be one."""
    found = _told(path, data)
    return (
        None
        if found is None
        else (found[0], found[1].replace("{name!r}", repr(path.name)).replace("{name}", path.name))
    )


def _told(path: Path, data: bytes) -> tuple[str, str] | None:
    head = data[:_HEAD]
    if not head:
        return "an empty file", "download or export it again"
    if head.startswith(b"PK"):
        return _archived(data)
    for place, start, what, hint in _BYTES:
        if head[place:].startswith(start):
            return what, hint
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for start, what, hint in _TEXT:
        if text.startswith(start):
            return what, hint
    if head[0] == 0x80 and head[1:2] in b"\x02\x03\x04\x05":
        return "a pickle (torch.save of older days, joblib, scikit-learn)", _EXPORT
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < len(data):
        return "tensors alone (safetensors)", "export the network that they belong to as ONNX"
    return _SUFFIXES.get(path.suffix.lower())


def _archived(data: bytes) -> tuple[str, str] | None:
    """Return what an archive is; None where it holds TorchScript, or cannot be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return None
    for end, what, hint in _INSIDE:
        if any(name.endswith(end) for name in names):
            return what, hint
    folders = {part for name in names for part in name.split("/")[:-1]}
    if any(name.endswith("data.pkl") for name in names) and "code" not in folders:
        return "weights or a pickled module (torch.save)", _EXPORT
    return None
