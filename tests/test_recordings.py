"""Recordings of event cameras: every format, the frames that are made of them, and all that can be wrong."""

import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from snnc import project
from snnc.data import recordings
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.event_frames import LONGEST, EventFrames
from snnc.data.events import EventFiles
from snnc.data.labels import CLASSES
from snnc.data.preprocessing import PROTOCOLS, Preprocessing, from_file, written
from snnc.data.recordings import extra, hdf5, npz, open_recording, recording
from snnc.data.recordings.frames import frame_shape, ordered
from snnc.errors import DataError, SnncError, UsageError
from snnc.process import memory_within
from snnc.validation import parse
from tests import recording_files as files
from tests.recording_files import HEIGHT, WIDTH, WRITERS

INPUT = {"x": (2, HEIGHT, WIDTH)}


def write(folder: Path, name: str, rows: np.ndarray, stem: str = "a") -> Path:
    suffix, writer, _, needs = WRITERS[name]
    if needs:
        pytest.importorskip(needs, reason=f"{suffix} files need the package {needs}")
    path = folder / f"{stem}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    writer(path, rows)
    return path


def read(path: Path, index: int = 0) -> np.ndarray:
    chunks = [np.stack([v.astype(np.int64) for v in found], 1) for found in open_recording(path).events(index)]
    return np.concatenate([np.zeros((0, 4), np.int64), *chunks])


def opened(path: Path, shape: tuple[int, ...] = INPUT["x"], reading: Reading | None = None, **how: Any) -> Dataset:
    return open_dataset(path, Preprocessing(events=EventFrames(**how)), {"x": shape}, reading)


def frames(path: Path, shape: tuple[int, ...] = INPUT["x"], **how: Any) -> np.ndarray:
    return opened(path, shape, **how).sample(0)["x"].numpy()


def fails(path: Path, shape: tuple[int, ...] = INPUT["x"], **how: Any) -> DataError:
    """Open and read everything, and return the error, checked for what every error must have."""
    with pytest.raises(DataError) as caught:
        list(opened(path, shape, **how).batches(Reading(2, 2)))
    error = caught.value
    assert error.hint and error.place.startswith((str(path), "preprocessing."))
    assert "\n" not in error.line and error.exit_code == 5
    return error


# Formats.


def test_every_format_is_tried() -> None:
    assert {name.partition(" of ")[0] for name in WRITERS} == set(recording.recordings)
    assert len({kind.about for kind in recording.recordings.values()}) == len(recording.recordings)


@pytest.mark.parametrize("count", [500, 1])
@pytest.mark.parametrize("name", WRITERS)
def test_events_come_as_they_were_written(name: str, count: int, tmp_path: Path) -> None:
    rows = files.events(count)
    path = write(tmp_path, name, rows)
    assert np.array_equal(read(path), rows)
    found = open_recording(path)
    assert (found.sensor, found.names) == (WRITERS[name][2], ())


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("name", WRITERS)
def test_chunks_change_nothing(name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = files.events(200, seed=2)
    path = write(tmp_path, name, rows)
    for module in (recording, npz, hdf5):
        monkeypatch.setattr(module, "CHUNK", size)
    assert np.array_equal(read(path), rows)
    if not name.startswith("aedat-"):
        assert max(len(found.t) for found in open_recording(path).events(0)) <= max(size, 12 * size)


def test_vectors_are_decoded_as_another_decoder_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = pytest.importorskip("evt3", reason="an independent decoder of EVT3")
    draw = np.random.default_rng(3)
    words, high, low = [8 << 12 | 4090, 6 << 12 | 5, 10, 3 << 12 | 3], 4090, 5
    for kind in draw.integers(0, 6, 3000).tolist():
        any_bits = draw.integers(0, 4096, 3).tolist()
        if kind == 0:
            high, low = (high + 1) % 4096, any_bits[0] // 40
            words += [8 << 12 | high, 6 << 12 | low]
        elif kind == 1:
            words += [any_bits[0] % 720]
        elif kind == 2:
            words += [2 << 12 | any_bits[0] & 0x800 | any_bits[1] % 1200]
        elif kind == 3:
            words += [3 << 12 | any_bits[0] & 0x800 | any_bits[1] % 900]
        elif kind == 4:
            words += [4 << 12 | any_bits[0], 4 << 12 | any_bits[1], 5 << 12 | any_bits[2] & 0xFF]
        else:
            low = min(low + any_bits[0] % 30, 4095)
            words += [6 << 12 | low]
    path = tmp_path / "a.raw"
    path.write_bytes(b"% evt 3.0\n% geometry 1280x720\n% end\n" + np.array(words, "<u2").tobytes())
    wanted = decoder.decode_file(str(path))
    assert len(wanted.x) > 1000 and int(wanted.t.max()) > 1 << 24, "time never began again"
    for size in (1 << 17, 7):
        monkeypatch.setattr(recording, "CHUNK", size)
        for column, name in zip(read(path).T, "xypt", strict=True):
            assert np.array_equal(column, np.asarray(getattr(wanted, name)).astype(np.int64)), name


@pytest.mark.parametrize("name", ["n-mnist", "prophesee-dat"])
def test_records_are_read_as_another_reader_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("evio", reason="an independent reader of N-MNIST and DAT files")
    from evio.formats import nmnist, prophesee

    path = write(tmp_path, name, files.events())
    wanted = {"n-mnist": nmnist, "prophesee-dat": prophesee}[name].read(path)
    assert np.array_equal(read(path), np.stack([wanted[field].astype(np.int64) for field in "xypt"], 1))


def test_time_that_overflows_is_counted_on(tmp_path: Path) -> None:
    """As the published reader of N-MNIST has it: an event at y = 240 is none, and adds 2^13."""
    rows = files.events(6)
    rows[2, 1] = rows[4, 1] = 240
    files.nmnist(tmp_path / "a.bin", rows)
    added = np.array([0, 0, 1 << 13, 2 << 13])
    kept = rows[[0, 1, 3, 5]] + added[:, None] * np.array([0, 0, 0, 1])
    assert np.array_equal(read(tmp_path / "a.bin"), kept)


@pytest.mark.parametrize("wide", [False, True])
def test_hdf5_finds_datasets_by_their_names(wide: bool, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason=".h5 files need the package h5py")
    rows = [files.events(40, seed) for seed in range(3)]
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        for index, each in enumerate(rows):
            if wide:
                kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
                held = file.create_dataset(f"CD/{index}/events", data=np.array([*map(tuple, each.tolist())], kind))
            else:
                held = file.create_group(f"train/{index}")
                for name, column in zip(("xs", "ys", "polarity", "timestamps"), each.T, strict=True):
                    held[name] = column
            held.attrs["height"], held.attrs["width"] = HEIGHT, WIDTH
    found = open_recording(tmp_path / "a.hdf5")
    assert len(found.names) == 3 and found.sensor == (HEIGHT, WIDTH)
    for index, each in enumerate(rows):
        assert np.array_equal(read(tmp_path / "a.hdf5", index), each)


def test_an_archive_holds_many_recordings(tmp_path: Path) -> None:
    rows = [files.events(count, seed) for seed, count in enumerate((40, 1, 300))]
    files.together(tmp_path / "a.npz", rows, [3, 1, 0])
    for index, each in enumerate(rows):
        assert np.array_equal(read(tmp_path / "a.npz", index), each)
    dataset = opened(tmp_path / "a.npz", frames=3)
    assert dataset.labels(CLASSES).answers.tolist() == [3, 1, 0]  # type: ignore[union-attr]
    assert [dataset.name(index) for index in range(3)] == [f"recording[{index}]" for index in range(3)]
    (batch,) = dataset.batches()
    assert batch["x"].shape == (3, 3, 2, HEIGHT, WIDTH) and batch.over_time == {"x"} and batch.apart
    assert batch["x"].sum((0, 2, 3, 4)).tolist() == [40, 1, 300]


def test_recordings_of_gestures_are_parts_of_files(tmp_path: Path) -> None:
    """As DVS-Gesture has it: what each part of a file shows stands beside it."""
    rows = {name: files.events(400, seed) for seed, name in enumerate(("user01_led", "user02_lab"))}
    lines = {"user01_led": "2,0,100000\n11,120000,250000\n", "user02_lab": "1,50000,300000\n"}
    for name, each in rows.items():
        files.aedat3(tmp_path / f"{name}.aedat", each)
        (tmp_path / f"{name}_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{lines[name]}")
    wanted = [("user01_led", 2, 0, 100_000), ("user01_led", 11, 120_000, 250_000), ("user02_lab", 1, 50_000, 300_000)]
    dataset = opened(tmp_path, (2, 128, 128), frames=4)
    assert [dataset.name(at) for at in range(3)] == [
        "user01_led.aedat[0]",
        "user01_led.aedat[1]",
        "user02_lab.aedat[0]",
    ]
    assert dataset.labels(CLASSES).answers.tolist() == [2, 11, 1]  # type: ignore[union-attr]
    assert dataset.ignored == ()
    for at, (name, _, begin, end) in enumerate(wanted):
        part = rows[name][(rows[name][:, 3] >= begin) & (rows[name][:, 3] < end)]
        assert np.array_equal(
            dataset.sample(at)["x"].numpy()[..., :HEIGHT, :WIDTH], counted(part, EventFrames(frames=4))
        )
    alone = opened(tmp_path / "user01_led.aedat", (2, 128, 128))
    assert alone.labels(CLASSES).answers.tolist() == [2, 11]  # type: ignore[union-attr]
    assert alone.name(1) == "user01_led.aedat[1]"
    before = dataset.digest()
    (tmp_path / "user02_lab_labels.csv").write_text("class,startTime_usec,endTime_usec\n1,50000,200000\n")
    assert opened(tmp_path, (2, 128, 128)).digest() != before
    for text, message in (
        ("class,startTime_usec,endTime_usec\n", "no recording is listed"),
        ("class,startTime_usec,endTime_usec\n1,5,5\n", "no class that begins and ends: 1,5,5"),
        ("class,start,end\n1,5,9\n", "no class that begins and ends: 1,,"),
    ):
        (tmp_path / "user02_lab_labels.csv").write_text(text)
        error = fails(tmp_path, (2, 128, 128))
        assert error.message == message and "user02_lab_labels.csv" in error.place
    (tmp_path / "user02_lab_labels.csv").unlink()
    assert "without labels among" in fails(tmp_path, (2, 128, 128)).message


# Frames.


def counted(rows: np.ndarray, how: EventFrames) -> np.ndarray:
    """The frames ``[S, channels, height, width]`` of events, one event after the other."""
    height, width = (WIDTH, HEIGHT) if how.transpose else (HEIGHT, WIDTH)
    crop = how.crop if isinstance(how.crop, tuple) else (how.crop or height, how.crop or width)
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    begin = 0 if how.start == "zero" else rows[0, 3]
    kept = [row for row in rows.tolist() if not how.first or row[3] - begin < how.first]
    whole = len(kept) if how.bins == "count" else max(1, kept[-1][3] - begin)
    if how.every:
        whole = how.every * how.frames
    elif how.first and how.bins == "time":
        whole = how.first
    planes = 2 if how.polarity == "channels" else 1
    found = np.zeros((how.frames, planes, -(-crop[0] // how.downsample), -(-crop[1] // how.downsample)))
    seen: dict[tuple[int, int], int] = {}
    for number, (x, y, p, t) in enumerate(kept):
        x, y = (y, x) if how.transpose else (x, y)
        around = [(x + i, y + j) for i, j in itertools.product((-1, 0, 1), repeat=2) if i or j]
        foretold = any(t - seen[place] <= how.denoise for place in around if place in seen)
        seen[x, y] = t
        at = number if how.bins == "count" else t - begin
        if (how.denoise and not foretold) or (how.every and at >= whole):
            continue
        if not (top <= y < top + crop[0] and left <= x < left + crop[1]):
            continue
        row, column = (y - top) // how.downsample, (x - left) // how.downsample
        plane = p if planes == 2 else 0
        value = (1 if p else -1) if how.polarity == "difference" else 1
        if how.voxel:
            exact = at / whole * (how.frames - 1)
            for frame in range(how.frames):
                found[frame, plane, row, column] += value * max(0.0, 1 - abs(frame - exact))
        else:
            found[min(at * how.frames // whole, how.frames - 1), plane, row, column] += value
    if how.clip is not None:
        found = found.clip(-how.clip, how.clip)
    found *= how.scale
    if how.square:
        missing = [max(found.shape[2:]) - side for side in found.shape[2:]]
        found = np.pad(found, [(0, 0), (0, 0), *((gap // 2, gap - gap // 2) for gap in missing)])
    if how.resize is not None:
        size = how.resize if isinstance(how.resize, tuple) else (how.resize, how.resize)
        found = torch.nn.functional.interpolate(torch.from_numpy(found), size).numpy()
    return found.swapaxes(0, 1).reshape(1, -1, *found.shape[2:]) if how.stacked else found


HOWS: list[dict[str, Any]] = [
    {},
    {"frames": 1},
    {"frames": 5, "bins": "count"},
    {"bins": "count", "every": 40},
    {"bins": "count", "first": 100_000},
    {"every": 20_000},
    {"first": 90_000, "frames": 3},
    {"start": "zero", "frames": 4},
    {"start": "zero", "voxel": True, "polarity": "difference"},
    {"voxel": True, "first": 200_000},
    {"polarity": "sum"},
    {"polarity": "difference", "clip": 1.0},
    {"clip": 1.0, "scale": 0.5},
    {"crop": (30, 20)},
    {"crop": 9, "downsample": 2},
    {"downsample": 4},
    {"transpose": True, "crop": (30, 20)},
    {"crop": (8, 33), "square": True},
    {"crop": (8, 33), "square": True, "resize": 50},
    {"resize": (10, 70)},
    {"denoise": 40_000},
    {"denoise": 40_000, "transpose": True, "crop": 21, "voxel": True},
    {"stacked": True, "frames": 3},
    {"stacked": True, "frames": 3, "polarity": "sum", "bins": "count"},
]


@pytest.mark.parametrize("size", [1 << 17, 100])
@pytest.mark.parametrize("options", HOWS, ids=str)
def test_frames_are_what_their_options_say(
    options: Mapping[str, Any], size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "CHUNK", size)
    rows, how = files.events(), EventFrames(**{**options, "sensor": (HEIGHT, WIDTH)})
    files.nmnist(tmp_path / "a.bin", rows)
    wanted = counted(rows, how)
    found = frames(tmp_path / "a.bin", wanted.shape[1:], **dataclasses.asdict(how))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted[0] if how.stacked else wanted, atol=1e-5)


def test_every_option_is_tried() -> None:
    tried = {name for options in HOWS for name in options} | {"sensor", "order"}
    assert tried == {field.name for field in dataclasses.fields(EventFrames)}


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_events_are_the_same_frames_in_any_format(name: str, tmp_path: Path) -> None:
    rows = files.events()
    path = write(tmp_path, name, rows)
    height, width = open_recording(path).sensor or (HEIGHT, WIDTH)
    wanted = np.zeros((8, 2, height, width))
    wanted[:, :, :HEIGHT, :WIDTH] = counted(rows, EventFrames())
    assert np.array_equal(frames(path, (2, height, width)), wanted)


def test_frames_are_standardized_and_fit_any_network(tmp_path: Path) -> None:
    rows = files.events()
    files.nmnist(tmp_path / "a.bin", rows)
    plain = counted(rows, EventFrames())
    how = Preprocessing(mean=(1.0, 2.0), std=(3.0, 4.0), layout="nhwc", events=EventFrames(sensor=(HEIGHT, WIDTH)))
    last = open_dataset(tmp_path / "a.bin", how, {"x": (HEIGHT, WIDTH, 2)}).sample(0)["x"].numpy()
    np.testing.assert_allclose(last, (plain.transpose(0, 2, 3, 1) - [1, 2]) / [3, 4], atol=1e-6)
    flat = frames(tmp_path / "a.bin", (2 * HEIGHT * WIDTH,), sensor=(HEIGHT, WIDTH))
    assert np.array_equal(flat, plain.reshape(8, -1))


def test_time_that_begins_again_goes_on(tmp_path: Path) -> None:
    rows = files.events()
    late = rows + np.array([0, 0, 0, (1 << 23) - 100_000])
    files.nmnist(tmp_path / "a.bin", late)
    assert read(tmp_path / "a.bin")[:, 3].max() < 1 << 23
    assert np.array_equal(frames(tmp_path / "a.bin"), counted(rows, EventFrames()))
    files.dat(tmp_path / "a.dat", (rows + np.array([0, 0, 0, (1 << 32) - 100_000])) % (1 << 32))
    assert np.array_equal(frames(tmp_path / "a.dat"), counted(rows, EventFrames()))


def test_a_recording_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "CHUNK", 1000)
    monkeypatch.setattr(npz, "CHUNK", 1000)
    peaks = {}
    for count in (20_000, 200_000):
        rows = files.events(count)
        files.dat(tmp_path / f"{count}.dat", rows)
        files.together(tmp_path / f"{count}.npz", [rows])
        del rows
        for suffix in (".dat", ".npz"):
            dataset = opened(tmp_path / f"{count}{suffix}")
            tracemalloc.start()
            dataset.sample(0)
            dataset.digest()
            peaks[count, suffix] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    for suffix in (".dat", ".npz"):
        assert peaks[200_000, suffix] < 1.2 * peaks[20_000, suffix]


# Folders.


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for index, name in enumerate(("cat/1", "cat/0", "dog/deep/2", "ant/3", "ant/10")):
        write(tmp_path / "set", "n-mnist", files.events(20, index), stem=name)
    return tmp_path / "set"


def test_a_folder_of_recordings_is_read_as_one_of_images(classes: Path) -> None:
    (classes / "notes.txt").touch()
    dataset = opened(classes)
    names = [dataset.name(index) for index in range(len(dataset))]
    assert names == ["ant/10.bin", "ant/3.bin", "cat/0.bin", "cat/1.bin", "dog/deep/2.bin"]
    found = dataset.labels(CLASSES)
    assert found is not None and found.answers.tolist() == [0, 0, 1, 1, 2] and found.names == ("ant", "cat", "dog")
    assert dataset.ignored == ("notes.txt",) and dataset.over_time
    (classes / "labels.csv").write_text("file,label\ncat/0.bin,4\nant/3.bin,2\n")
    listed = opened(classes).labels(CLASSES)
    assert listed is not None and listed.answers.tolist() == [4, 2]


def test_a_digest_is_of_names_contents_and_labels(classes: Path, tmp_path: Path) -> None:
    first = opened(classes).digest()
    shutil.copytree(classes, tmp_path / "copy")
    assert opened(tmp_path / "copy").digest() == first
    assert opened(classes, frames=3).digest() == first
    files.nmnist(classes / "cat/0.bin", files.events(20, 9))
    assert opened(classes).digest() != first
    one = opened(tmp_path / "copy/ant/3.bin")
    entry = ["3.bin", hashlib.sha256((tmp_path / "copy/ant/3.bin").read_bytes()).hexdigest(), None]
    assert one.digest() == hashlib.sha256(json.dumps(entry).encode() + b"\n").hexdigest()
    rows = [files.events(30, seed) for seed in (1, 2)]
    digests = set()
    for order in (rows, rows[::-1]):
        files.together(tmp_path / "a.npz", order)
        digests.add(opened(tmp_path / "a.npz").digest())
    assert len(digests) == 2


def test_what_is_opened_is_told_by_what_is_there(tmp_path: Path) -> None:
    arrays = tmp_path / "images.npz"
    np.savez(arrays, x=np.zeros((2, 2, HEIGHT, WIDTH), np.float32), y=np.zeros(2, int))
    assert not opened(arrays).over_time
    assert not EventFiles.opens(arrays, {}) and not EventFiles.opens(tmp_path / "nothing", {})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").touch()
    (pictures / "b.bin").touch()
    assert not EventFiles.opens(pictures, {})
    assert not EventFiles.opens(pictures / "a.png", {})
    (tmp_path / "empty").mkdir()
    assert not EventFiles.opens(tmp_path / "empty", {})


def test_first_and_last_of_each_class_are_kept_apart(tmp_path: Path) -> None:
    counts = {0: 11, 1: 20, 2: 1}
    labels = [label for label, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    files.together(
        tmp_path / "a.npz", [files.events(5, seed) for seed in range(len(labels))], [labels[i] for i in order]
    )
    whole = opened(tmp_path / "a.npz")
    train, test = (opened(tmp_path / "a.npz", reading=Reading(part=part)) for part in ("train", "test"))
    at = {part: [part.name(i) for i in range(len(part))] for part in (train, test)}
    assert sorted(at[train] + at[test]) == sorted(whole.name(i) for i in range(len(whole)))
    kept = {part: part.labels(CLASSES).answers.tolist() for part in (train, test)}  # type: ignore[union-attr]
    assert [kept[train].count(label) for label in counts] == [10, 18, 1]
    assert [kept[test].count(label) for label in counts] == [1, 2, 0]
    numbers = {part: [int(name[10:-1]) for name in names] for part, names in at.items()}
    for label in (0, 1):
        here = {part: [n for n, k in zip(numbers[part], kept[part], strict=True) if k == label] for part in at}
        assert max(here[train]) < min(here[test])
    few = opened(tmp_path / "a.npz", reading=Reading(part="train", limit=5))
    assert len(few) == 5 and {few.name(i) for i in range(5)} <= set(at[train])
    files.together(tmp_path / "b.npz", [files.events(5)])
    with pytest.raises(DataError, match="without classes") as caught:
        opened(tmp_path / "b.npz", reading=Reading(part="train"))
    assert caught.value.place == "--part"


# Preprocessing.


def test_the_protocol_of_cifar10_dvs(tmp_path: Path) -> None:
    """As its code has it, on coordinates as SpikingJelly gives them: (127 - y, 127 - x) of the addresses."""
    rows = files.events(3000, last=1_000_000)
    rows[:, :2] = np.random.default_rng(5).integers(0, 128, (3000, 2))
    files.aedat2(tmp_path / "a.aedat", rows)
    x, y, p, t = rows[:, 1], rows[:, 0], rows[:, 2], rows[:, 3]
    wanted = np.zeros((2, 9, 128, 128), np.float32)
    for at in range(9):
        inside = (t > at * t.max() / 9) & (t <= (at + 1) * t.max() / 9)
        np.add.at(wanted, (p[inside], at, y[inside], x[inside]), 1)
    picture = torch.nn.functional.interpolate(torch.from_numpy(wanted.reshape(1, 18, 128, 128)), (224, 224))[0]
    dataset = open_dataset(tmp_path / "a.aedat", PROTOCOLS["cifar10-dvs"], {"x": (18, 224, 224)})
    assert not dataset.over_time
    assert torch.equal(dataset.sample(0)["x"], picture)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_read_by_name_with_more_on_top(name: str, tmp_path: Path) -> None:
    assert written({"protocol": name}, place="p") == PROTOCOLS[name]
    path = tmp_path / "how.yaml"
    path.write_text(f"protocol: {name}\nlabel-offset: 1\nevents:\n  frames: 5\n")
    found = from_file(path)
    assert found.events is not None and PROTOCOLS[name].events is not None
    assert found.events == dataclasses.replace(PROTOCOLS[name].events, frames=5)
    assert found.label_offset == 1
    (tmp_path / "snnc.yaml").write_text(f"preprocessing: {{protocol: {name}}}\n")
    assert project.read(tmp_path).preprocessing == PROTOCOLS[name]
    assert parse(Preprocessing, json.loads(json.dumps(PROTOCOLS[name].plain())), place="again") == PROTOCOLS[name]


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        ({"protocol": "cifar"}, "p.protocol", "unknown protocol 'cifar'"),
        ({"events": {"frams": 3}}, "p.events", "unknown option 'frams'"),
        ({"events": {"frames": "many"}}, "p.events.frames", "invalid value 'many'"),
        ({"events": {"frames": 0}}, "p.events", "frames must be at least 1"),
        ({"events": {"frames": 10**10}}, "p.events", "frames must be at most 1,000,000,000"),
        ({"events": {"first": 10**18}}, "p.events", "first must be at most 4,503,599,627,370,496"),
        ({"events": {"every": 10**18}}, "p.events", "every must be at most 4,503,599,627,370,496"),
        ({"events": {"every": 10**15}}, "p.events", "every times frames must be at most 4,503,599,627,370,496"),
        ({"events": {"denoise": 10**18}}, "p.events", "denoise must be from 0 to 4,503,599,627,370,496"),
        ({"events": {"bins": "events"}}, "p.events.bins", "invalid value 'events'"),
        ({"events": {"voxel": True, "bins": "count"}}, "p.events", "voxel needs"),
        ({"events": {"clip": 0}}, "p.events", "clip must be positive"),
        ({"events": {"scale": 0}}, "p.events", "scale must be finite"),
        ({"events": {"denoise": -1}}, "p.events", "denoise must be"),
        ({"events": {"sensor": [0, 5]}}, "p.events", "sensor must be at least 1"),
        ({"events": 3}, "p.events", "invalid value 3"),
        ({"protocol": "cifar10-dvs", "events": {"frams": 3}}, "p.events", "unknown option 'frams'"),
        ({"protocol": "cifar10-dvs", "events": 3}, "p.events", "invalid value 3"),
        ({"reference": "mean"}, "p.reference", "invalid value 'mean'"),
    ],
)
def test_wrong_preprocessing_of_events(data: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(data, place="p")
    assert message in str(caught.value)
    assert caught.value.place == place and caught.value.hint


# What can be wrong.


@pytest.mark.parametrize("name", WRITERS)
def test_a_recording_without_events(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, files.events(0))
    height, width = open_recording(path).sensor or (HEIGHT, WIDTH)
    assert fails(path, (2, height, width)).message == "no events in this recording"


@pytest.mark.parametrize("name", WRITERS)
def test_a_recording_that_is_cut_short(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, name, files.events())
    path.write_bytes(path.read_bytes()[:-1])
    if name == "npz":
        # It can be told from an array file no longer.
        with pytest.raises(DataError):
            open_dataset(path, Preprocessing(), INPUT)
        return
    height, width = WRITERS[name][2] or (HEIGHT, WIDTH)
    assert fails(path, (2, height, width)).message.startswith(
        ("the recording ends within", "cannot read this recording")
    )


@pytest.mark.parametrize("cut", [20, 60, 150])
@pytest.mark.parametrize("name", ["aedat-3", "aedat-4", "prophesee-dat"])
def test_a_header_that_is_cut_short(name: str, cut: int, tmp_path: Path) -> None:
    path = write(tmp_path, name, files.events())
    path.write_bytes(path.read_bytes()[:cut])
    height, width = WRITERS[name][2] or (HEIGHT, WIDTH)
    fails(path, (2, height, width))


@pytest.mark.parametrize("size", [1 << 17, 50])
def test_events_out_of_order(size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "CHUNK", size)
    rows = files.events()
    rows[100, 3] -= 5 + int(rows[100, 3] - rows[99, 3])
    files.nmnist(tmp_path / "a.bin", rows)
    error = fails(tmp_path / "a.bin")
    assert error.message == "events out of order: event 100 is 5 microseconds before the one in front of it"
    # Where each event goes, its own time says.
    wanted = counted(rows, EventFrames())
    assert np.array_equal(frames(tmp_path / "a.bin", order="accept"), wanted)
    rows = rows[::-1].copy()
    files.nmnist(tmp_path / "a.bin", rows)
    assert np.array_equal(frames(tmp_path / "a.bin", order="accept"), wanted)


@pytest.mark.parametrize(("column", "value"), [(0, WIDTH), (1, HEIGHT)])
def test_events_beyond_the_sensor(column: int, value: int, tmp_path: Path) -> None:
    rows = files.events()
    rows[7, column] = value
    files.dat(tmp_path / "a.dat", rows)
    error = fails(tmp_path / "a.dat")
    assert error.message.startswith("event 7 is at x = ") and "34 rows of 34" in error.message
    assert frames(tmp_path / "a.dat", (2, 35, 35), sensor=(35, 35)).sum() == len(rows)


def test_a_sensor_that_nobody_says(tmp_path: Path) -> None:
    files.nmnist(tmp_path / "a.bin", files.events())
    for how in ({"crop": 30}, {"downsample": 2}, {"resize": 34}, {"square": True}):
        assert fails(tmp_path / "a.bin", **how).message == "the recording does not say how large the sensor is"
    assert fails(tmp_path / "a.bin", (2 * 34 * 34,)).message == "the recording does not say how large the sensor is"


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    files.dat(tmp_path / "a.dat", files.events())
    error = fails(tmp_path / "a.dat", (1, HEIGHT, WIDTH))
    assert error.message == "frames are [2, 34, 34] (channels, height, width), but the network takes [1, 34, 34]"
    assert "polarity" in error.hint
    assert "takes [7]" in fails(tmp_path / "a.dat", (7,)).message
    assert fails(tmp_path / "a.dat", crop=35).message == "the sensor is 34 x 34, smaller than the crop of 35 x 35"
    with pytest.raises(DataError, match="recordings are one input, but the network takes a, b"):
        open_dataset(tmp_path / "a.dat", Preprocessing(), {"a": INPUT["x"], "b": INPUT["x"]})


def test_unknown_codecs(tmp_path: Path) -> None:
    rows = files.events()
    path = tmp_path / "a.raw"
    files.evt3(path, rows, codec="EVT21")
    assert fails(path).message == "an unknown codec: EVT21"
    files.evt3(path, rows, order="big")
    assert fails(path).message == "an unknown codec: EVT3, big-endian"
    path.write_bytes(b"% integrator_name nobody\n")
    assert fails(path).message == "an unknown codec: EVT"
    path.write_bytes(b"no header")
    error = fails(path)
    assert error.message == "a .raw file of no known format" and "EVT2, EVT3" in error.hint
    files.dat(tmp_path / "a.dat", rows, size=16)
    assert fails(tmp_path / "a.dat").message == "an unknown codec: events of kind 0, 16 bytes each"
    files.aedat3(tmp_path / "a.aedat", rows, codec="Serial-TS")
    assert fails(tmp_path / "a.aedat").message == "an unknown codec: Serial-TS"
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT5.0\r\n")
    assert fails(tmp_path / "a.aedat").message == "a .aedat file of no known format"
    files.aedat2(tmp_path / "a.aedat", rows, chip="Retina9000")
    assert fails(tmp_path / "a.aedat").message == "events of an unknown chip: Retina9000"
    files.davis(tmp_path / "a.aedat", rows)
    data = (tmp_path / "a.aedat").read_bytes()
    (tmp_path / "a.aedat").write_bytes(data.replace(b"# AEChip: eu.seebetter.ini.chips.davis.Davis240C\r\n", b""))
    assert "no other chip" in fails(tmp_path / "a.aedat", (2, 128, 128)).message


def test_files_that_hold_no_events(tmp_path: Path) -> None:
    pytest.importorskip("aedat", reason=".aedat4 files need the package aedat")
    files.aedat4(tmp_path / "a.aedat4", files.events(), kind="FRME")
    fails(tmp_path / "a.aedat4")
    h5py = pytest.importorskip("h5py", reason=".h5 files need the package h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = np.zeros(3)
    assert fails(tmp_path / "a.h5").message == "no events in this file"


def columns(**other: Any) -> dict[str, Any]:
    numbers = np.arange(4)
    return {"x": numbers, "y": numbers, "p": numbers % 2, "t": numbers, **other}


# What files of HDF5 may be, by what is written into one.
HOSTILE: Mapping[str, Callable[[Any], Any]] = {
    "a circle": lambda file: file.create_group("a").__setitem__("again", file),
    "groups": lambda file: file.create_group("/".join("a" * 2000)),
    "a link nowhere": lambda file: file.__setitem__("t", hdf5_library().SoftLink("/nowhere")),
    "another file": lambda file: file.__setitem__("t", hdf5_library().ExternalLink("/dev/zero", "/t")),
    "text": lambda file: file.update(columns(t=np.array([b"a"] * 4))),
    "text for y": lambda file: file.update(columns(y=np.array([b"a"] * 4))),
    "tables": lambda file: file.update({name: np.zeros((4, 4)) for name in "xypt"}),
    "numbers": lambda file: file.update(dict.fromkeys("xypt", 3)),
    "lists": lambda file: file.create_dataset("t", 4, hdf5_library().vlen_dtype(np.int32)),
    "nothing": lambda file: file.update(columns(t=hdf5_library().Empty("i4"))),
    "an offset of text": lambda file: file.update(columns(t_offset="a")),
    "several offsets": lambda file: file.update(columns(t_offset=np.arange(3))),
    "a large offset": lambda file: file.update(columns(t_offset=np.uint64((1 << 64) - 1))),
    "a height of text": lambda file: file.update(columns(height="a", width="a")),
    "an endless height": lambda file: file.update(columns(height=np.inf, width=np.inf)),
    "an offset without end": lambda file: file.update(columns()) or file.create_dataset("t_offset", 1 << 38, "i8"),
    "a height without end": lambda file: file.update(columns(width=8)) or file.create_dataset("height", 1 << 38, "i8"),
    "a type": lambda file: file.__setitem__("t", np.dtype("i8")),
    "no height": lambda file: file.update(columns(height=0, width=-1)),
    "a large height": lambda file: file.update(columns(height=1 << 60, width=1 << 60)),
    "more than is there": lambda file: [file.create_dataset(name, 1 << 45, "i8", chunks=True) for name in "xypt"],
}


def hdf5_library() -> Any:
    return pytest.importorskip("h5py", reason=".h5 files need the package h5py")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hdf5_that_holds_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    with hdf5_library().File(tmp_path / "a.h5", "w") as file:
        HOSTILE[kind](file)
    fails(tmp_path / "a.h5", crop=8)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Any:
    """A file of HDF5 that is written, beside another with events, an offset, and a size."""
    with hdf5_library().File(tmp_path / "other.h5", "w") as file:
        file.update({f"held/{name}": column for name, column in columns(t_offset=7, height=8, width=8).items()})
    with hdf5_library().File(tmp_path / "a.h5", "w") as file:
        yield file


@pytest.mark.parametrize("there", ["other.h5", "nowhere.h5"])
@pytest.mark.parametrize("far", [False, True])
def test_hdf5_reads_nothing_of_other_files(far: bool, there: str, elsewhere: Any, tmp_path: Path) -> None:
    """Neither by links to them nor by links to such links, and says how many there were."""
    h5py = hdf5_library()
    elsewhere["out"] = h5py.ExternalLink(there, "/held")
    for name in columns():
        elsewhere[f"in/{name}"] = h5py.SoftLink(f"/out/{name}") if far else h5py.ExternalLink(there, f"/held/{name}")
    elsewhere.flush()
    count = 5 if not far or there == "other.h5" else 1
    links = f"{count} link{'s' if count > 1 else ''} to other files not followed"
    assert fails(tmp_path / "a.h5").message == f"no events in this file: {links}"
    elsewhere.update(columns())
    for name in ("t_offset", "height", "width"):
        elsewhere[name] = h5py.SoftLink(f"/out/{name}") if far else h5py.ExternalLink(there, f"/held/{name}")
    elsewhere.flush()
    assert open_recording(tmp_path / "a.h5").sensor is None
    assert np.array_equal(read(tmp_path / "a.h5"), np.stack([*columns().values()], 1))


def test_hdf5_takes_records_that_hold_more_than_events(tmp_path: Path) -> None:
    kind = np.dtype([("x", "<u2"), ("label", "S4"), ("y", "<u2"), ("p", "?"), ("t", "<i8"), ("around", "<f4", (3, 3))])
    rows = files.events(40)
    held = np.zeros(40, kind)
    for name, column in zip("xypt", rows.T, strict=True):
        held[name] = column
    with hdf5_library().File(tmp_path / "a.h5", "w") as file:
        file["events"] = held
    assert np.array_equal(read(tmp_path / "a.h5"), rows)


@pytest.mark.parametrize("first", [-(1 << 63), -(1 << 62), 0, 1 << 62])
def test_times_that_no_clock_counts_to_are_refused(first: int, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **columns(t=np.array([first, first, 1 << 62, 1 << 62])))
    error = fails(tmp_path / "a.npz")
    assert "which no clock counts to" in error.message and "nanoseconds" in error.hint


@pytest.mark.parametrize("how", [{}, {"voxel": True}, {"bins": "count"}, {"every": 50_000_000, "frames": 6}], ids=str)
def test_times_are_counted_from_the_first_event(how: dict[str, Any], tmp_path: Path) -> None:
    """In nanoseconds since 1970 too, by which frames come out the same; not where frames begin at 0."""
    rows = files.events()
    rows[:, 3] = rows[:, 3] * 1000 + 1_700_000_000_000_000_000
    files.npz(tmp_path / "a.npz", rows)
    np.testing.assert_allclose(frames(tmp_path / "a.npz", **how), counted(rows, EventFrames(**how)), atol=1e-5)
    assert "from 0" in fails(tmp_path / "a.npz", start="zero", **how).message


@pytest.mark.parametrize("frames", [3, 7, 4096, 5000])
def test_frames_of_the_longest_recording_are_exact(frames: int, tmp_path: Path) -> None:
    edges = np.arange(1, 8) * LONGEST // 8
    t = np.sort(np.concatenate([[0, LONGEST - 1, LONGEST], edges, edges - 1, edges + 1, -(-edges * 3 // 7)]))
    none = np.zeros(len(t), int)
    np.savez(tmp_path / "a.npz", x=none, y=none, p=none, t=t)
    found = opened(tmp_path / "a.npz", (2, 1, 1), frames=frames).sample(0)["x"].numpy()[:, 0, 0, 0]
    wanted = [min(int(at) * frames // LONGEST, frames - 1) for at in t]
    assert np.array_equal(found, np.bincount(wanted, minlength=frames))


def test_longer_stretches_than_an_hour_are_taken(tmp_path: Path) -> None:
    rows = files.events()
    rows[:, 3] *= 100_000
    files.npz(tmp_path / "a.npz", rows)
    for how in ({"first": 3_600_000_000}, {"every": 3_600_000_000}, {"denoise": 3_600_000_000}):
        assert np.array_equal(frames(tmp_path / "a.npz", **how), counted(rows, EventFrames(**how)))


def test_frames_may_take_half_of_the_memory() -> None:
    how = EventFrames(frames=1 << 10, polarity="sum")
    with memory_within("1G"):
        assert frame_shape(how, (1 << 8, 1 << 9)) == (1 << 8, 1 << 9, 1)
        with pytest.raises(DataError, match=r"0\.56 GiB of memory would be needed"):
            frame_shape(how, (9 << 5, 1 << 9))


@pytest.mark.parametrize("how", [{"frames": 10**9}, {"sensor": (60_000, 60_000), "resize": 34}])
def test_frames_that_need_more_memory_than_there_is_are_refused(how: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **columns())
    assert "of memory would be needed" in fails(tmp_path / "a.npz", **how).message


def test_an_archive_is_not_unpacked_beyond_what_its_arrays_hold(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.arange(4))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xypt":
            archive.writestr(f"{name}.npy", held.getvalue() + bytes(100 * (name == "y")))
    assert fails(tmp_path / "a.npz").message == "y does not hold as many bytes as its shape says"


def test_an_archive_may_not_state_more_than_it_holds(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.arange(4))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "xypt":
            archive.writestr(f"{name}.npy", held.getvalue()[: -16 if name == "t" else None])
        archive.getinfo("t.npy").file_size += 16
    assert fails(tmp_path / "a.npz").message == "t does not hold as many bytes as its shape says"


@pytest.mark.parametrize("size", [8, (1 << 31) - 1])
def test_packets_longer_than_their_file_are_refused_before_they_are_read(size: int, tmp_path: Path) -> None:
    head = b"#!AER-DAT3.1\r\n#Source 1: DVS128\r\n#!END-HEADER\r\n"
    packet = struct.pack("<hhiiiiii", 1 if size == 8 else 2, 0, size, 4, 0, 1, (1 << 31) - 1, 1)
    (tmp_path / "a.aedat").write_bytes(head + packet)
    assert "the recording ends within" in fails(tmp_path / "a.aedat", (2, 128, 128)).message


@pytest.mark.parametrize("label", ["9" * 5000, "9" * 30, "1" * 200_000, "\0", "-1", "٤"])
def test_lines_of_labels_that_are_none_are_named(label: str, tmp_path: Path) -> None:
    files.aedat3(tmp_path / "a.aedat", files.events())
    (tmp_path / "a_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{label},0,5\n")
    with pytest.raises(DataError) as caught:
        opened(tmp_path / "a.aedat")
    assert caught.value.place.startswith(f"{tmp_path / 'a_labels.csv'}:") and caught.value.hint


@pytest.mark.parametrize("suffix", [".dat", ".raw"])
def test_a_header_without_end_is_no_header(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a{suffix}").write_bytes(b"% evt 3.0\n" * 200_000)
    assert "its header is longer" in fails(tmp_path / f"a{suffix}").message


@pytest.mark.parametrize("side", ["0", "9" * 30])
def test_a_sensor_that_there_is_none_of_is_refused(side: str, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(f"% Height {side}\n% Width {side}\n% end\n".encode() + b"\0\x08" + bytes(8))
    assert fails(tmp_path / "a.dat", crop=8).message.startswith("a sensor of")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extra.importlib, "import_module", missing)
    (tmp_path / "a.h5").touch()
    files.aedat4(tmp_path / "a.aedat4", files.events())
    for name, needed in (("a.h5", "h5py"), ("a.aedat4", "aedat")):
        with pytest.raises(SnncError, match=f"need the package {needed}") as caught:
            opened(tmp_path / name)
        assert caught.value.hint == "pip install 'snnc[events]'"


def test_folders_of_several_formats(tmp_path: Path) -> None:
    files.nmnist(tmp_path / "a.bin", files.events())
    files.dat(tmp_path / "b.dat", files.events())
    assert fails(tmp_path).message == "recordings of several formats: .bin, .dat"
    (tmp_path / "a.bin").unlink()
    files.aedat2(tmp_path / "c.dat", files.events())
    error = fails(tmp_path)
    assert error.message == "AEDAT 2 (.aedat), where the first recording is Prophesee DAT (.dat)"
    (tmp_path / "c.dat").unlink()
    (tmp_path / "b.dat").unlink()
    files.npz(tmp_path / "a.npz", files.events())
    files.together(tmp_path / "b.npz", [files.events(), files.events()])
    assert fails(tmp_path, sensor=(HEIGHT, WIDTH)).message == "2 recordings in one file of a folder"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"offsets": [0, 3]}, "offsets do not run from 0"),
        ({"offsets": [1, 20]}, "offsets do not run from 0"),
        ({"offsets": [0], "events_xypt": np.zeros((0, 4), int)}, "offsets do not run from 0"),
        ({"offsets": [0, 15, 5, 20]}, "offsets that run back"),
        ({"offsets": [0, 20], "labels": [1, 2]}, "labels are int64 [2] for 1 recordings"),
        ({"offsets": [0, 20], "labels": [0.5]}, "labels are float64 [1]"),
        ({"events_xypt": np.zeros((20, 3), int)}, "events of shape events_xypt [20, 3]"),
        ({"events_xypt": np.array([["a"]])}, "events_xypt is of type <U1"),
        ({"events_xypt": np.zeros((4, 20), int).T}, "column by column"),
    ],
)
def test_wrong_archives(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    held = {"events_xypt": files.events(20), **{name: np.asarray(value) for name, value in arrays.items()}}
    np.savez(tmp_path / "a.npz", **held)
    assert message in fails(tmp_path / "a.npz").message


def test_a_damaged_archive(tmp_path: Path) -> None:
    files.together(tmp_path / "a.npz", [files.events()])
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[200:900] = bytes(700)
    (tmp_path / "a.npz").write_bytes(data)
    assert fails(tmp_path / "a.npz").message == "cannot read: damaged or cut short"
    columns = {"x": np.arange(4), "y": np.arange(4), "p": np.arange(4), "t": np.arange(5)}
    np.savez(tmp_path / "b.npz", **columns)
    assert fails(tmp_path / "b.npz").message == "events of shape x [4], y [4], p [4], t [5]"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    files.nmnist(tmp_path / "a.bin", files.events())
    dataset = opened(tmp_path)
    (tmp_path / "a.bin").unlink()
    with pytest.raises(DataError, match="cannot read: No such file") as caught:
        dataset.sample(0)
    assert caught.value.place == str(tmp_path / "a.bin")
    with pytest.raises(DataError, match="cannot read"):
        dataset.digest()


def test_events_are_checked_one_chunk_after_another() -> None:
    how = EventFrames()
    first, second = (recordings.Events(*np.array([[0, 1], [0, 1], [0, 1], t])) for t in ([5, 9], [7, 8]))
    assert len([*ordered([first], 0, how, (2, 2), "here")]) == 1
    with pytest.raises(DataError, match="event 2 is 2 microseconds before") as caught:
        list(ordered([first, second], 0, how, (2, 2), "here"))
    assert caught.value.place == "here"
