"""Boxes around objects: the label files of detectors, found by how a folder is laid out."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from snnc.data.labels import Labels
from snnc.data.transform import Transform
from snnc.documents import read_yaml
from snnc.errors import DataError, UsageError
from snnc.files import check_file, read_bytes
from snnc.process import memory

# The kind of labels that are boxes.
BOXES: Final = "boxes"

# As much of an image, or so many pixels, may a box leave it: labels are rounded, and some count pixels from 0.
_SLACK, _PIXELS = 0.01, 1.5

# Bytes that nobody writes of one image, or of classes, and the share of the memory that the bytes of one file for all
# images may take.
_LONGEST, _SHARE = 1 << 22, 4

# No network tells so many classes apart.
MOST_CLASSES: Final = 1_000_000

Rows = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class Boxes(Labels):
    """Boxes around the objects of each sample.

    ``answers`` are ``[k, 6]`` each: left, top, right and bottom in pixels of what the network sees, the class, and 1.
    What does not count has 0 there (too difficult) or −1 (a crowd). ``names`` are those of the classes, from 0 on.
    """

    answers: list[Tensor]
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.answers)

    def taken(self, indices: Sequence[int], offset: int = 0) -> Self:
        shift = torch.tensor([0, 0, 0, 0, offset, 0])
        names = (*map(str, range(offset)), *self.names[max(0, -offset) :]) if self.names else ()
        return type(self)([self.answers[index] + shift for index in indices], names)

    def plain(self, index: int) -> list[list[float]]:
        return [[round(value, 4) for value in row] for row in self.answers[index].tolist()]


@dataclass(frozen=True, eq=False)
class Annotated:
    """The images of a folder and what is on them.

    ``files`` are relative paths, ``rows`` ``[k, 6]`` each: left, top, right, bottom, class and what it counts. They are
    shares of the image where ``relative``, else its pixels. ``places`` say where that stands.
    """

    files: tuple[str, ...]
    rows: tuple[Rows, ...]
    places: tuple[tuple[str, ...], ...]
    relative: bool
    names: tuple[str, ...] = ()

    def located(self, folder: Path, transform: Transform) -> Boxes:
        """Return where the boxes lie in what the network sees; raises DataError where one is not on its image."""
        return Boxes(
            [
                _located(folder / file, rows, places, self.relative, transform)
                for file, rows, places in zip(self.files, self.rows, self.places, strict=True)
            ],
            self.names,
        )


def annotated(folder: Path, images: Sequence[str]) -> Annotated | None:
    """Return what label files say of the ``images`` below a folder, None where there are no such files.

    Known are COCO's JSON (in the folder or in ``annotations/``), Pascal VOC's XML and YOLO's text files, which lie
    beside the images or where ``labels`` or ``Annotations`` stands in the place of ``images`` or ``JPEGImages`` in
    their paths. Raises DataError where one is broken, or lacks an image or a label.
    """
    for read in (_coco, _voc, _yolo):
        found = read(folder, images)
        if found is not None:
            return found
    return None


def _located(file: Path, rows: Rows, places: Sequence[str], relative: bool, transform: Transform) -> Tensor:
    if not len(rows):
        return torch.zeros(0, 6)
    try:
        with Image.open(file) as image:
            width, height = image.size
    except Exception:  # decoders raise whatever they like on broken files
        raise DataError("cannot read this image", place=str(file), hint="replace or remove the file") from None
    shares = rows[:, :4] / (1.0 if relative else np.array([width, height, width, height]))
    for share, place in zip(shares, places, strict=True):
        left, top, right, bottom = share.tolist()
        if not all(map(math.isfinite, share)) or right <= left or bottom <= top:
            raise DataError("a box without area", place=place, hint="correct it or remove the line")
        across, down = max(_SLACK, _PIXELS / width), max(_SLACK, _PIXELS / height)
        if left < -across or top < -down or right > 1 + across or bottom > 1 + down:
            hint = f"the image is {height} x {width} (height x width): correct the box or remove it"
            raise DataError("a box leaves its image", place=place, hint=hint)
    seen = transform.placed(shares.clip(0, 1), (height, width))
    kept = (seen[:, 2] > seen[:, 0]) & (seen[:, 3] > seen[:, 1])
    return torch.from_numpy(np.concatenate([seen, rows[:, 4:]], 1)[kept]).float()


# --- COCO -----------------------------------------------------------------------------------------------------------


def _coco(folder: Path, images: Sequence[str]) -> Annotated | None:
    found = [
        (path, data)
        for path in sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])
        if (data := _instances(path)) is not None
    ]
    if not found:
        return None
    if len(found) > 1:
        several = ", ".join(path.name for path, _ in found)
        raise DataError(f"several files of annotations: {several}", place=str(folder), hint="leave one of them there")
    ((path, data),) = found
    place = str(path)
    try:
        categories = dict(sorted(_by_id(data["categories"], "categories").items()))
        numbers = {category: number for number, category in enumerate(categories)}
        entries = {image: str(entry["file_name"]) for image, entry in _by_id(data["images"], "images").items()}
        rows: dict[int, list[list[float]]] = {image: [] for image in entries}
        places: dict[int, list[str]] = {image: [] for image in entries}
        names = tuple(str(category["name"]) for category in categories.values())
        for index, annotation in enumerate(data["annotations"]):
            place = f"{path}: annotations[{index}]"
            left, top, width, height = (float(value) for value in annotation["bbox"])
            crowd, ignored = (int(annotation.get(name) or 0) for name in ("iscrowd", "ignore"))
            image, category = _id(annotation["image_id"]), _id(annotation["category_id"])
            if image not in rows or category not in numbers:
                raise ValueError(f"no image {image}" if image not in rows else f"no category {category}")
            counts = -1.0 if crowd else 0.0 if ignored else 1.0
            rows[image].append([left, top, left + width, top + height, float(numbers[category]), counts])
            places[image].append(place)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"not as COCO writes it: {reason:.100}", place=place, hint="check the file") from None
    place = str(path)
    if not entries:
        raise DataError("no image is listed", place=place, hint="remove the file where it says nothing of the images")
    return Annotated(
        tuple(_listed(entries.values(), images, place)),
        tuple(map(_rows, rows.values())),
        tuple(map(tuple, places.values())),
        relative=False,
        names=names,
    )


def _by_id(rows: Sequence[Mapping[str, Any]], name: str) -> dict[int, Mapping[str, Any]]:
    """Return rows by their ids; raises ValueError where one has none, or that of another."""
    found: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        if found.setdefault(_id(row["id"]), row) is not row:
            raise ValueError(f"the id {row['id']} twice in {name}")
    return found


def _id(value: object) -> int:
    """Return a whole number, which some write in quotes or as 5.0; raises ValueError of anything else."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not re.fullmatch("-?[0-9]{1,18}", str(value), re.ASCII):
        raise ValueError(f"no id: {value!r:.40}")
    return int(str(value))


def _listed(names: Iterable[str], images: Sequence[str], place: str) -> Iterator[str]:
    """Yield the images of some names: paths as they are, or the last part of one alone."""
    paths = defaultdict(list)
    for image in images:
        paths[image.rsplit("/", 1)[-1]].append(image)
    known, seen = set(images), set[str]()
    for name in names:
        found = [name] if name in known else paths[name]
        if not found:
            raise DataError(f"no such image: {name!r}", place=place, hint="put it below the folder of the file")
        if len(found) > 1:
            hint = f"{' or '.join(found[:2])}: give the folder of one, or write paths into the file"
            raise DataError(f"{len(found)} images are called {name!r}", place=place, hint=hint)
        if found[0] in seen:
            raise DataError(f"{found[0]!r} is listed twice", place=place, hint="give its annotations one id")
        seen.add(found[0])
        yield found[0]


def _instances(path: Path) -> Mapping[str, Any] | None:
    """Return what a file holds if that is images, annotations and categories."""
    named = path.parent.name == "annotations"
    try:
        size, most = check_file(path), memory() // _SHARE
    except DataError:
        if named:
            raise
        return None
    if size > most:
        raise DataError(f"annotations larger than {most:,} bytes", place=str(path), hint="give more with --memory")
    try:
        data = json.loads(read_bytes(path))
    except (DataError, ValueError, RecursionError):
        if named:
            raise DataError("cannot read these annotations", place=str(path), hint="check the file") from None
        return None
    wanted = {"images", "annotations", "categories"}
    return data if isinstance(data, Mapping) and wanted <= set(data) else None


# --- Pascal VOC -----------------------------------------------------------------------------------------------------


def _voc(folder: Path, images: Sequence[str]) -> Annotated | None:
    files = _beside(folder, images, ".xml", {"JPEGImages": "Annotations", "images": "annotations"})
    if files is None:
        return None
    read = [_objects(file) for file in files]
    names = _class_names(folder) or tuple(sorted({name for objects in read for name, _ in objects}))
    numbers = {name: number for number, name in enumerate(names)}
    rows = []
    for file, objects in zip(files, read, strict=True):
        unknown = [name for name, _ in objects if name not in numbers]
        if unknown:
            raise DataError(f"the class {unknown[0]!r} is not in classes.txt", place=str(file), hint="add it there")
        rows.append(_rows([[*box[:4], numbers[name], box[4]] for name, box in objects]))
    places = tuple(tuple(f"{file}: {name}" for name, _ in objects) for file, objects in zip(files, read, strict=True))
    return Annotated(tuple(images), tuple(rows), places, relative=False, names=names)


def _objects(file: Path) -> list[tuple[str, list[float]]]:
    try:
        # Entities are what a hostile file would be made of, and no label file declares any.
        text = read_bytes(file, most=_LONGEST).decode()
        if "<!ENTITY" in text:
            raise ValueError("entities")
        root = ElementTree.fromstring(text)
        found = []
        for entry in root.iter("object"):
            box = entry.find("bndbox")
            ends = [float(_text(box, name)) for name in ("xmin", "ymin", "xmax", "ymax")]
            # Pixels are counted from 1, and the last one belongs to the box.
            corners = [ends[0] - 1, ends[1] - 1, ends[2], ends[3]]
            difficult = entry.findtext("difficult", "0").strip() == "1"
            found.append((_text(entry, "name"), [*corners, 0.0 if difficult else 1.0]))
    except (ValueError, ElementTree.ParseError) as error:
        raise DataError(f"not as Pascal VOC writes it: {error}", place=str(file), hint="check the file") from None
    return found


def _text(element: "ElementTree.Element | None", name: str) -> str:
    text = None if element is None else element.findtext(name)
    if text is None:
        raise ValueError(f"no {name}")
    return text.strip()


# --- YOLO -----------------------------------------------------------------------------------------------------------


def _yolo(folder: Path, images: Sequence[str]) -> Annotated | None:
    files = _beside(folder, images, ".txt", {"images": "labels"})
    if files is None or _are_texts(files):
        return None
    rows = [[*_lines(file)] for file in files]
    return Annotated(
        tuple(images),
        tuple(_rows([row for row, _ in lines]) for lines in rows),
        tuple(tuple(place for _, place in lines) for lines in rows),
        relative=True,
        names=_class_names(folder),
    )


def _are_texts(files: Sequence[Path]) -> bool:
    """Return whether files hold something, and no line that a box could be: captions beside images, say."""
    lines = [words for file in files for line in _text_lines(file) if (words := line.split())]
    return bool(lines) and not any(_is_number(words[0]) or _is_number(words[-1]) for words in lines)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lines(file: Path) -> Iterator[tuple[list[float], str]]:
    """Yield the boxes of a file: class, center, width and height, or a class and the corners of a polygon."""
    for index, line in enumerate(_text_lines(file), 1):
        words, place = line.split(), f"{file}:{index}"
        if not words:
            continue
        try:
            number, *values = map(float, words)
        except ValueError:
            values = []
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            hint = "write: class x-center y-center width height, in shares of the image"
            raise DataError(f"no box: {line[:60]!r}", place=place, hint=hint)
        if not 0 <= number < MOST_CLASSES or not number.is_integer():
            message = f"the class {words[0]!r} is no whole number from 0 to {MOST_CLASSES - 1:,}"
            raise DataError(message, place=place, hint="number them from 0")
        if len(values) == 4:
            x, y, width, height = values
            ends = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        else:
            ends = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        yield [*ends, number, 1.0], place


# --- what they share ------------------------------------------------------------------------------------------------


def _beside(folder: Path, images: Sequence[str], suffix: str, instead: Mapping[str, str]) -> list[Path] | None:
    """Return the label file of every image, None where no image has one; raises DataError where some lack it."""
    # A folder is listed once, and not asked for each of its files; of many images there is one path at a time.
    listed: dict[Path, frozenset[str]] = {}

    def within(parent: Path) -> frozenset[str]:
        if parent not in listed:
            listed[parent] = _names(parent, suffix)
        return listed[parent]

    def is_there(file: Path) -> bool:
        return file.name in within(file.parent)

    # One of each folder: images mostly have no such labels, and then need not be asked for one by one.
    some = {name.rpartition("/")[0]: name for name in images}.values()
    for place in (_mirrored(folder, instead), folder.__truediv__):
        if not any(within(place(name).parent) for name in some):
            continue
        there = [is_there(place(name).with_suffix(suffix)) for name in images]
        if any(there):
            if not all(there):
                lacking = images[there.index(False)]
                hint = f"an empty one says that nothing is on it: {place(lacking).with_suffix(suffix)}"
                raise DataError("an image without a label file", place=str(folder / lacking), hint=hint)
            return [place(name).with_suffix(suffix) for name in images]
    return None


def _names(folder: Path, suffix: str) -> frozenset[str]:
    """Return what in a folder has a suffix, if it is there; raises DataError where that cannot be read."""
    try:
        found = folder.iterdir() if folder.is_dir() else ()
        return frozenset(entry.name for entry in found if entry.name.endswith(suffix))
    except OSError as error:
        raise DataError(f"cannot read: {error.strerror}", place=str(folder), hint="check the folder") from None


def _mirrored(folder: Path, instead: Mapping[str, str]) -> Callable[[str], Path]:
    """Return what puts the folder of labels in the place of the last folder of images in a path."""

    def place(name: str) -> Path:
        *parts, last = (folder.absolute() / name).parts
        for index in range(len(parts) - 1, -1, -1):
            if parts[index] in instead:
                return Path(*parts[:index], instead[parts[index]], *parts[index + 1 :], last)
        return folder / name

    return place


def _class_names(folder: Path) -> tuple[str, ...]:
    """Return the names of the classes from ``classes.txt`` or ``data.yaml`` in the folder or above it."""
    for place in (folder, folder.parent):
        file = place / "classes.txt"
        if file.is_file():
            return tuple(line.strip() for line in _text_lines(file) if line.strip())
        file = place / "data.yaml"
        if file.is_file():
            return _yaml_names(file)
    return ()


def _yaml_names(file: Path) -> tuple[str, ...]:
    """Return the names of the classes from a list, or a mapping from their numbers; nothing where there is neither."""
    try:
        data = read_yaml(file)
    except UsageError as error:
        raise DataError(error.message, place=error.place, hint=error.hint) from None
    names = data.get("names") if isinstance(data, Mapping) else None
    if names is None:
        return ()
    if isinstance(names, Sequence) and not isinstance(names, str):
        return tuple(map(str, names))
    if isinstance(names, Mapping) and all(type(number) is int and 0 <= number < MOST_CLASSES for number in names):
        return tuple(str(names.get(number, number)) for number in range(max(names, default=-1) + 1))
    raise DataError("names are no list of classes", place=str(file), hint="write names: [cat, dog]")


def _text_lines(file: Path) -> list[str]:
    try:
        return read_bytes(file, most=_LONGEST).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError("cannot read this file", place=str(file), hint="save it as text in UTF-8") from None


def _rows(rows: Sequence[Sequence[float]]) -> Rows:
    return np.asarray(rows, dtype=np.float64).reshape(-1, 6)
