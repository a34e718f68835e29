"""Arrays, images and lists of labels."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from snnc.data.dataset import Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from tests.fuzz.numbers import damaged, lengths, names, reals
from tests.fuzz.oracle import Files, Kind

SHAPE = (1, 4, 4)
_KINDS = ["<f4", "<f8", "<f2", "|u1", "<i8", "<u8", "|b1", "<c8", "<U3", "|O", "|S2", ">i4"]


def _npy(kind: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """Return the bytes of an array file whose header says what it likes."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    header = text.ljust(117 + 64 * (len(text) // 117)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@st.composite
def _array(draw: st.DrawFn, shape: tuple[int, ...]) -> bytes:
    if draw(st.booleans()):
        shape = tuple(draw(st.lists(lengths, max_size=5)))
    kind = draw(st.sampled_from(_KINDS[:4] if draw(st.booleans()) else _KINDS))
    size = min(int(np.prod([max(length, 0) for length in shape], dtype=object)), 512)
    if np.dtype(kind).kind == "f":
        data = np.full(size, draw(reals), np.float64)
        with np.errstate(all="ignore"):
            return _npy(kind, shape, data.astype(kind).tobytes())
    return _npy(kind, shape, bytes(draw(st.integers(0, 255)) for _ in range(4)) * size * np.dtype(kind).itemsize)


@st.composite
def arrays(draw: st.DrawFn) -> Files:
    samples = draw(st.integers(1, 4))
    x = draw(_array((samples, *SHAPE)))
    if draw(st.integers(0, 3)) == 0:
        return {"d.npy": draw(damaged(x))}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        archive.writestr("x.npy", x)
        if draw(st.booleans()):
            archive.writestr("y.npy", draw(_array((samples,))))
        if draw(st.integers(0, 5)) == 0:
            archive.writestr(draw(st.sampled_from(["x", "y", "y.txt", "y_a.npy"])), b"text")
    return {"d.npz": draw(damaged(stream.getvalue()))}


@st.composite
def images(draw: st.DrawFn) -> Files:
    found: dict[str, bytes] = {}
    for name in draw(st.lists(st.sampled_from(["a", "b", "c/a", "d/b"]), min_size=1, max_size=3, unique=True)):
        kind = draw(st.sampled_from(["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"]))
        size = draw(st.sampled_from([(4, 4), (4, 4), (5, 3), (1, 60)]))
        mode = draw(st.sampled_from(["L", "L", "RGB", "RGBA", "P", "1", "I;16", "CMYK"]))
        stream = io.BytesIO()
        try:
            Image.new(mode, size).save(stream, kind)
        except (OSError, ValueError):
            Image.new("L", size).save(stream, "PNG")
        found[f"{name}.{draw(st.sampled_from(['png', 'jpg', 'tif', 'gif', 'webp']))}"] = draw(
            damaged(stream.getvalue())
        )
    if draw(st.booleans()):
        rows = st.tuples(st.one_of(st.sampled_from(sorted(found)), names), st.one_of(st.integers(-2, 4), names, reals))
        lines = ["file,label", *(f"{file},{label}" for file, label in draw(st.lists(rows, max_size=4)))]
        found["labels.csv"] = draw(damaged("\n".join(lines).encode(errors="surrogatepass"), 2))
    return found


@st.composite
def preprocessed(draw: st.DrawFn, files: st.SearchStrategy[Files]) -> Files:
    """Draw files, and a preprocessing beside them: resized to some size, or not at all."""
    size = draw(st.sampled_from(["", "4", "4", "256", "100000", "1000000"]))
    return {**{f"data/{name}": data for name, data in draw(files).items()}, "resize": size.encode()}


def examine(folder: Path) -> None:
    """Read all samples and their labels."""
    size = int((folder / "resize").read_text() or 0)
    how = Preprocessing(resize=size, crop=4, label_offset=1) if size else Preprocessing()
    data = next((path for path in (folder / "data").glob("d.np?")), folder / "data")
    dataset = open_dataset(data, how, {"x": SHAPE}, Reading(workers=1))
    for kind in sorted(dataset.kinds):
        dataset.labels(kind)
    for _ in dataset.batches():
        pass
    dataset.digest()


KINDS = [Kind("array", preprocessed(arrays()), examine), Kind("image", preprocessed(images()), examine)]
