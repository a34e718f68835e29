"""Recordings of events in every format that is read, written as their specifications say."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

HEIGHT, WIDTH = 34, 34


def events(count: int = 500, seed: int = 0, last: int = 300_000) -> np.ndarray:
    """Rows of x, y, p and t, in order; the first is at 7 microseconds."""
    draw = np.random.default_rng(seed)
    t = np.sort(draw.integers(7, last, count))
    t[:1] = 7
    return np.stack([draw.integers(0, WIDTH, count), draw.integers(0, HEIGHT, count), draw.integers(0, 2, count), t], 1)


def nmnist(path: Path, rows: np.ndarray) -> None:
    x, y, p, t = rows.T
    high = p << 7 | t >> 16 & 0x7F
    path.write_bytes(np.stack([x, y, high, t >> 8 & 0xFF, t & 0xFF], 1).astype(np.uint8).tobytes())


def aedat2(path: Path, rows: np.ndarray, chip: str = "") -> None:
    x, y, p, t = rows.T
    header = f"#!AER-DAT2.0\r\n# Timestamps tick is 1 us\r\n{f'# AEChip: {chip}' + chr(13) + chr(10) if chip else ''}"
    if "Davis" in chip:
        address = (180 - 1 - y) << 22 | (240 - 1 - x) << 12 | p << 11
    else:
        address = (127 - y) << 8 | (127 - x) << 1 | 1 - p
    path.write_bytes(header.encode() + np.stack([address, t], 1).astype(">u4").tobytes())


def davis(path: Path, rows: np.ndarray) -> None:
    aedat2(path, rows, "eu.seebetter.ini.chips.davis.Davis240C")


def aedat3(path: Path, rows: np.ndarray, codec: str = "RAW") -> None:
    header = f"#!AER-DAT3.1\r\n#Format: {codec}\r\n#Source 1: DVS128\r\n#Start-Time: never\r\n#!END-HEADER\r\n"
    data = header.encode()
    for part in np.array_split(rows, 3):
        x, y, p, t = part.T
        words = np.stack([x << 17 | y << 2 | p << 1 | 1, t], 1).astype("<u4")
        data += struct.pack("<hhiiiiii", 1, 1, 8, 4, 0, len(part), len(part), len(part)) + words.tobytes()
        # Of another kind, and passed by.
        data += struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    path.write_bytes(data)


def aedat4(path: Path, rows: np.ndarray, kind: str = "EVTS") -> None:
    info = (
        '<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">'
        '<node name="0" path="/mainloop/Recorder/outInfo/0/">'
        f'<attr key="compression" type="string">NONE</attr><attr key="typeIdentifier" type="string">{kind}</attr>'
        '<node name="info" path="/mainloop/Recorder/outInfo/0/info/">'
        f'<attr key="sizeX" type="int">{WIDTH}</attr><attr key="sizeY" type="int">{HEIGHT}</attr>'
        "</node></node></node></dv>"
    ).encode()
    # A table of a number, a position and a string: vtable, table, string.
    table = struct.pack("<HHHHHHi", 10, 20, 4, 8, 16, 0, 12) + struct.pack("<iqI", 0, -1, 4)
    text = struct.pack("<I", len(info)) + info + b"\0"
    data = b"#!AER-DAT4.0\r\n" + _prefixed(struct.pack("<I4s", 20, b"IOHE") + table + text)
    form = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("on", "?"), ("rest", "V3")])
    for part in np.array_split(rows, 3):
        packed = np.zeros(len(part), form)
        for name, column in zip(("x", "y", "on", "t"), part.T, strict=True):
            packed[name] = column
        # A table of one vector.
        table = struct.pack("<HHHH", 6, 8, 4, 0) + struct.pack("<iI", 8, 4)
        packet = _prefixed(struct.pack("<I4s", 16, b"EVTS") + table + struct.pack("<I", len(part)) + packed.tobytes())
        data += struct.pack("<ii", 0, len(packet)) + packet
    path.write_bytes(data)


def _prefixed(buffer: bytes) -> bytes:
    return struct.pack("<I", len(buffer)) + buffer


def dat(path: Path, rows: np.ndarray, size: int = 8) -> None:
    x, y, p, t = rows.T
    header = f"% Data file containing CD events.\n% Version 2\n% Width {WIDTH}\n% Height {HEIGHT}\n"
    data = np.stack([t, x | y << 14 | p << 28], 1).astype("<u4").tobytes()
    path.write_bytes(header.encode() + bytes([0, size]) + data)


def evt2(path: Path, rows: np.ndarray) -> None:
    header = f"% integrator_name Prophesee\n% evt 2.0\n% geometry {WIDTH}x{HEIGHT}\n% end\n"
    # The first has no time yet, and one is of a kind that is passed by.
    words, high = [1 << 28, 0xA << 28], -1
    for x, y, p, t in rows.tolist():
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    path.write_bytes(header.encode() + np.array(words, "<u4").tobytes())


def evt3(path: Path, rows: np.ndarray, codec: str = "EVT3", order: str = "little") -> None:
    header = f"% format {codec};height={HEIGHT};width={WIDTH}\n% endianness {order}\n% end\n"
    words, time, line = [2 << 12, 0xE << 12], (-1, -1), -1
    for index, (x, y, p, t) in enumerate(rows.tolist()):
        if t >> 12 != time[0]:
            time = t >> 12, 0
            words += [8 << 12 | time[0] & 0xFFF]
        if t & 0xFFF != time[1]:
            time = time[0], t & 0xFFF
            words += [6 << 12 | time[1]]
        if y != line:
            line = y
            words += [y]
        # Alone, or in a vector of twelve or of eight behind an empty one.
        words += (
            [2 << 12 | p << 11 | x],
            [3 << 12 | p << 11 | x, 4 << 12 | 1],
            [3 << 12 | p << 11 | max(x - 15, 0), 4 << 12, 5 << 12 | 1 << (x - max(x - 15, 0) - 12)]
            if x - max(x - 15, 0) >= 12
            else [2 << 12 | p << 11 | x],
        )[index % 3]
    path.write_bytes(header.encode() + np.array(words, "<u2").tobytes())


def hdf5(path: Path, rows: np.ndarray) -> None:
    """As DSEC has it."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, column in zip(("x", "y", "p", "t"), rows.T, strict=True):
            chunks = {"chunks": (min(64, len(rows)),), "compression": "gzip"} if len(rows) else {}
            kind = np.uint32 if name == "t" else np.uint16
            file.create_dataset(f"events/{name}", data=(column - (5 if name == "t" else 0)).astype(kind), **chunks)
        file["t_offset"] = np.int64(5)
        file["ms_to_idx"] = np.zeros(3, np.uint64)


def npz(path: Path, rows: np.ndarray) -> None:
    x, y, p, t = rows.T
    np.savez_compressed(path, x=x.astype(np.uint8), y=y.astype(np.uint8), p=2 * p.astype(np.int8) - 1, t=t)


def together(path: Path, recordings: list[np.ndarray], labels: list[int] | None = None) -> None:
    """Many recordings in one archive."""
    edges = np.cumsum([0, *map(len, recordings)])
    rest = {} if labels is None else {"labels": np.array(labels)}
    np.savez_compressed(path, events_xypt=np.concatenate(recordings).astype(np.int32), offsets=edges, **rest)


def archive(path: Path, **arrays: bytes) -> None:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in arrays.items():
            file.writestr(f"{name}.npy", data)


# By name, with the suffix of the file; the size that it says itself, and what it needs.
WRITERS: dict[str, tuple[str, Callable[[Path, np.ndarray], None], tuple[int, int] | None, str]] = {
    "n-mnist": (".bin", nmnist, None, ""),
    "aedat-2": (".aedat", aedat2, (128, 128), ""),
    "aedat-2 of a davis": (".aedat", davis, (180, 240), ""),
    "aedat-3": (".aedat", aedat3, (128, 128), ""),
    "aedat-4": (".aedat4", aedat4, (HEIGHT, WIDTH), "aedat"),
    "prophesee-dat": (".dat", dat, (HEIGHT, WIDTH), ""),
    "prophesee-raw of EVT2": (".raw", evt2, (HEIGHT, WIDTH), ""),
    "prophesee-raw of EVT3": (".raw", evt3, (HEIGHT, WIDTH), ""),
    "hdf5": (".h5", hdf5, None, "h5py"),
    "npz": (".npz", npz, None, ""),
}
