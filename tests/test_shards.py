"""Tar shards and Parquet files: the same samples as in folders and arrays, in any order, and every way to be wrong."""

import importlib
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snnc.cli import main
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.labels import CLASSES, FLAGS, VALUES, Classes
from snnc.data.preprocessing import Preprocessing
from snnc.data.tar import Archive
from snnc.errors import DataError, UsageError
from tests.frontend_files import array, one, save

SHAPE = {"x": (3, 4, 4)}
PLAIN = Preprocessing()
PIXELS = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), np.uint8)
LABELS = [number % 3 for number in range(len(PIXELS))]

try:
    importlib.import_module("pyarrow.parquet")
    MISSING = False
except ImportError:
    MISSING = True
needs_pyarrow = pytest.mark.skipif(MISSING, reason="pyarrow is not installed")


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def pack(path: Path, files: Iterable[tuple[str | tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def sample(number: int, label: str | None = "cls") -> list[tuple[str, bytes]]:
    shown = {"cls": f"{LABELS[number]}\n", "txt": f"{LABELS[number]}", "json": json.dumps({"label": LABELS[number]})}
    beside = [] if label is None else [(f"{number:04d}.{label}", shown[label].encode())]
    return [(f"{number:04d}.png", png(PIXELS[number])), *beside]


def shards(folder: Path, label: str | None = "cls") -> Path:
    for shard, numbers in enumerate((range(4), range(4, 5), range(5, 10))):
        pack(folder / f"train-{shard:03d}.tar", (file for number in numbers for file in sample(number, label)))
    return folder


def classes_of(folder: Path) -> Path:
    for number, pixels in enumerate(PIXELS):
        path = folder / f"{LABELS[number]}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels))
    return folder


def arrow(path: Path, columns: Mapping[str, Any], *, names: list[str] | None = None, rows: int = 3) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=rows)
    return path


def images(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [{"bytes": png(PIXELS[number]), "path": None} for number in numbers]


def parquet(folder: Path, **how: Any) -> Path:
    for part, numbers in enumerate((range(7), range(7, 10))):
        name = f"train-{part:05d}-of-00002.parquet"
        arrow(folder / name, {"image": images(numbers), "label": [LABELS[n] for n in numbers]}, **how)
    return folder


def opened(path: Path, shape: Mapping[str, tuple[int, ...]] = SHAPE, **reading: Any) -> Dataset:
    return open_dataset(path, PLAIN, shape, Reading(**reading))


def samples(dataset: Dataset) -> torch.Tensor:
    return torch.cat([feeds["x"] for feeds in dataset.batches(Reading(3, 2))])


def numbers(dataset: Dataset) -> list[int]:
    labels = dataset.labels(CLASSES)
    assert labels is not None
    return labels.answers.tolist()


def fails(path: Path, shape: Mapping[str, tuple[int, ...]] = SHAPE) -> DataError:
    with pytest.raises(DataError) as caught:
        samples(opened(path, shape))
    error = caught.value
    assert error.hint and error.place and "\n" not in error.message
    return error


# The same samples, however they are kept.


@pytest.fixture
def kept(tmp_path: Path) -> dict[str, Path]:
    folder = classes_of(tmp_path / "folder")
    np.savez(tmp_path / "arrays.npz", x=PIXELS, y=np.array(LABELS))
    made = {
        "folder": folder,
        "arrays": tmp_path / "arrays.npz",
        "braces": shards(tmp_path / "braces") / "train-{000..002}.tar",
        "words": shards(tmp_path / "words") / "train-00{0,1,2}.tar",
        "wildcard": shards(tmp_path / "wildcard") / "*-*.tar",
        "tars": shards(tmp_path / "tars"),
        "one": pack(tmp_path / "one.tar", (file for number in range(10) for file in sample(number))),
        "json": shards(tmp_path / "json", "json"),
        "text": shards(tmp_path / "text", "txt"),
    }
    if not MISSING:
        made["parquet"] = parquet(tmp_path / "parquet")
        made["parquet wildcard"] = parquet(tmp_path / "wild") / "train-*.parquet"
        made["parquet braces"] = parquet(tmp_path / "rows", rows=100) / "train-{00000..00001}-of-00002.parquet"
    return made


def test_the_same_samples_are_read_from_every_source(kept: Mapping[str, Path]) -> None:
    by_class = sorted(range(10), key=lambda number: (LABELS[number], number))
    expected = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    for name, path in kept.items():
        dataset = opened(path)
        order = by_class if name == "folder" else list(range(10))
        assert numbers(dataset) == [LABELS[number] for number in order], name
        assert torch.allclose(samples(dataset), expected[order]), name
        # Any sample can be had alone, as ranks and resumed training have them.
        some = dataset.chosen([7, 2])
        assert torch.allclose(samples(some), expected[[order[7], order[2]]]), name
        assert len({dataset.name(index) for index in range(10)}) == 10
        assert dataset.findings == ()
        assert torch.equal(samples(opened(path, limit=4, seed=1)), samples(dataset.spread(4, 1)))


def test_the_digest_is_of_names_contents_and_labels(tmp_path: Path, kept: Mapping[str, Path]) -> None:
    digests = {name: opened(path).digest() for name, path in kept.items()}
    same = [digests[name] for name in ("braces", "words", "wildcard", "tars")]
    assert len(set(same)) == 1
    # A text says no more than .cls; without labels it is another.
    assert digests["text"] == digests["json"] == same[0]
    assert opened(shards(tmp_path / "bare", None)).digest() not in digests.values()
    if not MISSING:
        assert digests["parquet"] == digests["parquet wildcard"] == digests["parquet braces"]


def test_a_network_is_calibrated_and_evaluated_on_shards(
    tmp_path: Path, kept: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nodes = [
        one("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        one("Relu", ["c"], ["r"]),
        one("Flatten", ["r"], ["f"]),
        one("MatMul", ["f", "v"]),
    ]
    save(tmp_path / "model.onnx", nodes, (3, 4, 4), {"w": array(4, 3, 3, 3), "v": array(64, 3)})
    found = {}
    assert main(["convert", "model.onnx", "--recipe", "quick", "--data", str(kept["braces"]), "-q"]) == 0
    for name in ("braces", *(() if MISSING else ("parquet",)), "arrays"):
        assert main(["evaluate", "model.snn", "--data", str(kept[name]), "--json", "--fresh"]) == 0
        found[name] = json.loads(capsys.readouterr().out)["rows"]
    assert all(rows == found["arrays"] for rows in found.values())


# Shards.


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(tmp_path: Path, form: int) -> None:
    folder = tarfile.TarInfo("deep")
    folder.type = tarfile.DIRTYPE
    long = [] if form == tarfile.USTAR_FORMAT else ["é/" + "n" * 300 + ".png", "d" * 90 + "/" + "n" * 99 + ".cls"]
    names = ["a.png", "deep/b.png", "p" * 100 + "/" + "n" * 80 + ".png", *long, "z.png"]
    files: list[tuple[str | tarfile.TarInfo, bytes]] = [(folder, b"")]
    files += [(name, bytes(at * 200)) for at, name in enumerate(names)]
    path = pack(tmp_path / "a.tar", files, form)
    with tarfile.open(path) as theirs, Archive(path) as archive:
        wanted = [(member.name, member.offset_data, member.size) for member in theirs if member.isfile()]
        assert [tuple(member) for member in archive.members()] == wanted
    assert [name for name, _, _ in wanted] == names


def test_names_that_packers_write_otherwise(tmp_path: Path) -> None:
    files = [("./0001.PNG", png(PIXELS[0])), ("./0001.cls", b"1"), ("./._0001.PNG", b"x"), ("./.DS_Store", b"x")]
    files += [("./README.md", b"hello"), ("./b/0001.seg.png", png(PIXELS[1])), ("./b/0001.cls", b"2")]
    dataset = opened(pack(tmp_path / "a.tar", files))
    assert [dataset.name(index) for index in range(2)] == ["a.tar/0001.PNG", "a.tar/b/0001.seg.png"]
    assert numbers(dataset) == [1, 2]
    assert dataset.ignored == ("a.tar:README.md",)


@pytest.mark.parametrize(
    ("texts", "kind", "answers"),
    [
        ([("json", "3"), ("json", '{"cls": 1, "label": 7}')], CLASSES, [3, 1]),
        ([("cls", "1"), ("json", '{"class": 2}')], CLASSES, [1, 2]),
        ([("json", '{"label": 0.5}'), ("json", '{"label": 2}')], VALUES, [[0.5], [2.0]]),
        ([("json", '{"label": [0, 1, 1]}'), ("json", "[1, 0, 0]")], FLAGS, [[0, 1, 1], [1, 0, 0]]),
        ([("txt", "4"), ("txt", "a cat on a mat")], "", None),
        ([("json", '{"caption": "a cat"}'), ("txt", "a cat on a mat, and what it thinks of mats")], "", None),
    ],
)
def test_labels_stand_beside_samples(tmp_path: Path, texts: list[tuple[str, str]], kind: str, answers: Any) -> None:
    files = [(f"{at}.{end}", text.encode()) for at, (end, text) in enumerate(texts)]
    packed = [file for at, own in enumerate(files) for file in (own, (f"{at}.png", png(PIXELS[at])))]
    dataset = opened(pack(tmp_path / "a.tar", packed))
    labels = dataset.labels(kind) if kind else None
    assert dataset.kinds == ({kind} if kind else set())
    assert labels is None or labels.answers.tolist() == answers


def test_arrays_are_members_too(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    path = pack(tmp_path / "rows.tar", ((f"{at}.npy", npy(row)) for at, row in enumerate(rows)))
    assert torch.equal(samples(opened(path, {"x": (7,)})), torch.from_numpy(rows))
    mixed = [("0.png", png(PIXELS[0])), ("1.npy", npy(PIXELS[1])), ("2.npy", npy(PIXELS[2].transpose(2, 0, 1)))]
    expected = torch.from_numpy(PIXELS[:3]).permute(0, 3, 1, 2).float() / 255
    assert torch.allclose(samples(opened(pack(tmp_path / "mixed.tar", mixed))), expected)
    assert "images do not fit" in fails(tmp_path / "mixed.tar", {"x": (7,)}).message
    assert "has shape [1, 7]" in fails(path).message
    for content in (b"", b"\x93NUMPY", npy(rows[0])[:-1], npy(rows[0]) + b"0", npy(np.array([{}], object))):
        error = fails(pack(tmp_path / "bad.tar", [("a/0.npy", content)]), {"x": (7,)})
        assert (error.message, error.place) == (
            "damaged, or no .npy file of plain numbers",
            f"{tmp_path}/bad.tar:a/0.npy",
        )
    frames = fails(pack(tmp_path / "frames.tar", [("0.npy", npy(PIXELS[:2]))]))
    assert frames.message == "frames over time in a shard"


def linked(kind: bytes, name: str = "0001.png") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("files", "message", "member"),
    [
        ([], "no sample in this shard", ""),
        ([("README.md", b"")], "no sample in this shard", ""),
        ([*sample(0), *sample(1, None)], "a sample without a label among such as have one", "0001.png"),
        ([*sample(0), ("0001.cls", b"1")], "a label without a sample", "0001.cls"),
        ([*sample(0), ("0001.json", b"1")], "a label without a sample", "0001.json"),
        ([*sample(0), ("0000.jpg", b"")], "a second one beside '0000.png'", "0000.jpg"),
        ([*sample(0), *sample(1), *sample(0)], "a name that another sample has", "0000.png"),
        ([*sample(0), *sample(0)], "a name that another sample has", "0000.png"),
        ([("0.png", png(PIXELS[0])[:40])], "cannot read this image: damaged, cut short or no image", "0.png"),
        ([("0.png", b"")], "cannot read this image: damaged, cut short or no image", "0.png"),
        ([("0.png", b""), ("0.cls", b"cat")], "the label 'cat' is no integer", "0.cls"),
        ([("0.png", b""), ("0.cls", b"\xff")], "no text in UTF-8", "0.cls"),
        ([("0.png", b""), ("0.cls", bytes(2000))], "larger than 1,024 bytes: no label", "0.cls"),
        ([("0.png", b""), ("0.json", b"{")], "no JSON", "0.json"),
        ([("0.png", b""), ("0.json", b"[" * 100_000)], "no JSON", "0.json"),
        ([("0.png", b""), ("0.json", b'{"label": "cat"}')], "the label 'cat' is no number", "0.json"),
        ([("0.png", b""), ("0.json", b'{"label": NaN}')], "the label nan is no number", "0.json"),
        ([("0.png", b""), ("0.json", b"[0, 1]"), ("1.png", b""), ("1.cls", b"1")], "a label of 1 numbers", "1.png"),
        ([*sample(0), (linked(tarfile.SYMTYPE), b"")], "a link, no file", "0001.png"),
        ([*sample(0), (linked(tarfile.LNKTYPE), b"")], "a link, no file", "0001.png"),
        ([*sample(0), (linked(tarfile.CHRTYPE), b"")], "a device, no file", "0001.png"),
        ([*sample(0), (linked(tarfile.FIFOTYPE, "pipe"), b"")], "a pipe, no file", "pipe"),
    ],
)
def test_bad_members_are_named_with_their_shard(
    tmp_path: Path, files: list[tuple[str | tarfile.TarInfo, bytes]], message: str, member: str
) -> None:
    path = pack(tmp_path / "a.tar", files)
    error = fails(path)
    assert error.message.startswith(message)
    assert error.place == (f"{path}:{member}" if member else str(path))


def bomb(content: bytes) -> bytes:
    """Say that the first file of an archive has eight gigabytes."""
    header = bytearray(content[:512])
    header[124:136] = b"%011o\0" % (1 << 33)
    return bytes(signed(header)) + content[512:]


def signed(header: bytearray) -> bytearray:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return header


def extended(said: bytes) -> bytes:
    record = b"%d %s\n" % (len(said) + 6, said)
    header = bytearray(tarfile.TarInfo("x").tobuf())
    header[124:136], header[156:157] = b"%011o\0" % len(record), b"x"
    return bytes(signed(header)) + record.ljust(-(-len(record) // 512) * 512, b"\0") + bytes(1024)


def holed(content: bytes) -> bytes:
    header = bytearray(content[:512])
    header[156:157] = b"S"
    return bytes(signed(header)) + content[512:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: content[:540], "cut short: the rest of this file is missing"),
        (lambda content: content[:1024], "cut short: it has no end"),
        (lambda content: content[:1500], "cut short: it has no end"),
        (lambda content: content[:100], "damaged, or no tar file: no header at byte 0"),
        (lambda content: bytes(100), "damaged, or no tar file"),
        (lambda content: b"\x1f\x8b" + content, "a compressed tar file"),
        (
            lambda content: content[:1024] + b"x" * 512 + content[1536:],
            "damaged, or no tar file: no header at byte 1,024",
        ),
        (bomb, "cut short: the rest of this file is missing"),
        (holed, "a file with holes, no file"),
        (lambda content: extended(b"size=" + b"9" * 5000), "damaged, or no tar file: no header at byte 512"),
    ],
)
def test_damaged_shards_are_told(tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    path = pack(tmp_path / "a.tar", sample(0))
    path.write_bytes(change(path.read_bytes()))
    error = fails(path)
    assert error.message.startswith(message)
    assert error.place.startswith(str(path))


def test_any_byte_may_be_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        whole = pack(path, [("n" * 200 + ".png", png(PIXELS[0])), *sample(1, None)], form).read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(80):
            broken = bytearray(whole)
            at = int(rng.integers(0, 2048))
            broken[at] = int(rng.integers(0, 256))
            # The sum is right: what is written is what was meant.
            header = at // 512 * 512
            if broken[header + 257 : header + 262] == b"ustar":
                broken[header : header + 512] = signed(broken[header : header + 512])
            path.write_bytes(broken)
            try:
                samples(opened(path))
            except DataError as error:
                assert str(path) in error.place


def test_memory_bounds_one_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.tar", sample(0))
    monkeypatch.setattr("snnc.data.shards.memory", lambda: 16)
    assert fails(path).message.endswith("bytes are too much for one sample")


# Patterns.


@pytest.mark.parametrize(
    ("pattern", "message", "place"),
    [
        ("train-{000..003}.tar", "no such file, which the pattern names", "train-003.tar"),
        ("train-{0..2}.tar", "no such file, which the pattern names", "train-0.tar"),
        ("test-*.tar", "no file of this name", "test-*.tar"),
        ("train-{002..000}.tar", "0 files", "train-{002..000}.tar"),
        ("train-{0..999999999}.tar", "1,000,000,000 files", "train-{0..999999999}.tar"),
        ("train-{0..9999}{0..9999}.tar", "100,000,000 files", "train-{0..9999}{0..9999}.tar"),
        ("train-{000}.tar", "no list: {000}", "train-{000}.tar"),
        ("train-000.{tar,md}", "another kind of file among those of the pattern", "train-000.md"),
        ("*.md", "a pattern of other files: train-000.md", "*.md"),
    ],
)
def test_patterns_that_do_not_fit_are_told(tmp_path: Path, pattern: str, message: str, place: str) -> None:
    (shards(tmp_path) / "train-000.md").touch()
    error = fails(tmp_path / pattern)
    assert (error.message, error.place) == (message, str(tmp_path / place))


def test_a_pattern_that_the_shell_has_expanded_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "model.snn", "--data", "0.tar", "1.tar", "2.tar"]) == 2
    assert "hint:  put a pattern of files in quotes, or see snnc evaluate --help" in capsys.readouterr().err


def test_a_folder_holds_one_part_of_the_data(tmp_path: Path) -> None:
    (shards(tmp_path / "train") / "README.md").touch()
    assert opened(tmp_path).ignored == ("train/README.md",)
    shards(tmp_path / "val")
    error = fails(tmp_path)
    assert error.message == "train and val are parts of data"
    assert error.hint == f"give one by a pattern, in quotes: --data '{tmp_path}/train/train-*.tar'"
    assert len(opened(tmp_path / "val/train-*.tar")) == 10
    # Beside images they are packed again, or something else.
    shards(classes_of(tmp_path / "images"))
    assert opened(tmp_path / "images").ignored == ("train-000.tar", "train-001.tar", "train-002.tar")


def test_a_name_with_braces_is_a_file_where_there_is_one(tmp_path: Path) -> None:
    path = pack(tmp_path / "a{0..1}[2]*.tar", sample(0))
    assert opened(path).name(0) == f"{path.name}/0000.png"


# Parquet.


@needs_pyarrow
def test_classes_are_named_as_the_file_states(tmp_path: Path) -> None:
    dataset = opened(parquet(tmp_path, names=["tench", "dog", "10"]))
    labels = dataset.labels(CLASSES)
    assert isinstance(labels, Classes) and labels.names == ("tench", "dog", "10")
    assert dataset.findings == ()
    (finding,) = dataset.uncovered(5)
    assert finding.message == "3 classes have names, but the network has 5 outputs"
    assert [dataset.name(index) for index in (0, 7)] == [
        "train-00000-of-00002.parquet[0]",
        "train-00001-of-00002.parquet[0]",
    ]


@needs_pyarrow
@pytest.mark.parametrize(
    ("columns", "kind", "answers"),
    [
        ({"img": images(range(2)), "fine_label": [1, 0], "coarse_label": [5, 6]}, CLASSES, [1, 0]),
        ({"image": [png(pixels) for pixels in PIXELS[:2]], "label": [1, 0], "id": [b"a", b"b"]}, CLASSES, [1, 0]),
        ({"image": images(range(2)), "label": [True, False]}, CLASSES, [1, 0]),
        ({"image": images(range(2)), "label": [0.5, 1.0]}, VALUES, [[0.5], [1.0]]),
        ({"image": images(range(2)), "label": [[0, 1], [1, 1]]}, FLAGS, [[0, 1], [1, 1]]),
        ({"image": images(range(2)), "label": [-1, -1]}, "", None),
        ({"image": images(range(2)), "caption": ["a", "b"]}, "", None),
    ],
)
def test_columns_are_found(tmp_path: Path, columns: Mapping[str, Any], kind: str, answers: Any) -> None:
    dataset = opened(arrow(tmp_path / "a.parquet", columns))
    assert len(samples(dataset)) == 2
    labels = dataset.labels(kind) if kind else None
    assert dataset.kinds == ({kind} if kind else set())
    assert labels is None or labels.answers.tolist() == answers


@needs_pyarrow
@pytest.mark.parametrize(
    ("columns", "message", "place"),
    [
        ({"text": ["a"], "label": [1]}, "no column of images, only: text (string), label (int64)", ""),
        ({"a": images([0]), "b": images([0])}, "several columns of images", ""),
        ({"image": images([0]), "label": ["cat"]}, "labels of type string, no numbers", ":label"),
        ({"image": images([0, 1]), "label": [1, None]}, "a row without a label", "[1]"),
        ({"image": images([0, 1]), "label": [[1], [1, 2]]}, "labels of different lengths", None),
        ({"image": images([0, 1]), "label": [1.0, float("nan")]}, "a label that is not finite", "[1]"),
        ({"image": images([0]), "label": [1 << 40]}, "the label 1099511627776", ":label"),
        ({"image": [*images([0]), {"bytes": None, "path": "b.png"}]}, "no bytes of an image in this row", "[1]"),
        ({"image": [*images([0]), None]}, "no bytes of an image in this row", "[1]"),
        ({"image": [*images([0]), {"bytes": b"x", "path": ""}]}, "cannot read this image: damaged", "[1]"),
    ],
)
def test_bad_parquet_files_are_told(
    tmp_path: Path, columns: Mapping[str, Any], message: str, place: str | None
) -> None:
    path = arrow(tmp_path / "a.parquet", columns)
    error = fails(path)
    assert error.message.startswith(message)
    assert error.place == (str(tmp_path) if place is None else f"{path}{place}")


@needs_pyarrow
def test_damaged_parquet_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(parquet(tmp_path).iterdir())
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-1], whole[100:], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(content)
        assert str(path) in fails(tmp_path).place
    path.write_bytes(whole)
    (tmp_path / "empty").mkdir()
    reader = importlib.import_module("pyarrow.parquet")
    reader.write_table(reader.read_table(path)[:0], tmp_path / "empty/a.parquet")
    assert fails(tmp_path / "empty").message == "no row in it"
    arrow(tmp_path / "train-9.parquet", {"picture": images([0])})
    assert fails(tmp_path).message == "no column 'image', which the first file has"
    monkeypatch.setattr("snnc.data.parquet.memory", lambda: 1000)
    assert fails(path).message.endswith("bytes of images in one group of rows")


def test_a_missing_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(UsageError, match="Parquet files need the package pyarrow") as caught:
        opened(tmp_path / "a.parquet")
    assert caught.value.hint == "pip install 'snnc[parquet]'"
