"""Folders of image files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self, final

from PIL import Image

from snnc.data.boxes import BOXES, annotated
from snnc.data.decoding import decode
from snnc.data.folder import file_digest, files_in, listed, of_kind
from snnc.data.labels import FILE_NAME, Labels
from snnc.data.pictures import IMAGES, pictures
from snnc.data.source import Array, Source, sources
from snnc.data.transform import Transform
from snnc.errors import DataError
from snnc.process import memory

SUFFIXES = {
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif"),
    *(".pbm", ".pgm", ".pnm", ".ppm"),
}


@final
@sources.register("images")
@dataclass(frozen=True, eq=False)
class ImageFiles(Source):
    """Image files below one folder, named by their relative paths with forward slashes.

    They are what one input takes, as gray images or in color.

    Where there is no ``labels.csv``, images in ``images`` have labels of their names in a folder beside it that says
    what it holds (``masks``, ``targets``); otherwise files of boxes are labels (see ``snnc.data.boxes``). Otherwise
    images are those that ``listed`` finds.
    """

    about: ClassVar[str] = "a folder of images"
    general: ClassVar[bool] = True

    folder: Path
    names: tuple[str, ...]
    input: str
    gray: bool

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return path.is_dir()

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        name, transform = only_input(inputs, path)
        # Pillow loads its decoders at the first need; several threads needing them at once is asking for trouble.
        Image.init()
        names, labels, ignored = _found(path, transform)
        return cls(labels, ignored, path, tuple(names), name, transform.channels == 1)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def place(self, index: int) -> str:
        return str(self.folder / self.names[index])

    def read(self, index: int) -> Mapping[str, Array]:
        return {self.input: decode(self.folder / self.names[index], gray=self.gray, noticed=self.noticed)}

    def digest(self, index: int) -> str:
        path = self.folder / self.names[index]
        if path.exists() and path.stat().st_size > memory():
            # A file may have no end: whether it is an image is told sooner than what it holds.
            self.read(index)
        return file_digest(path)


def _found(folder: Path, transform: Transform) -> tuple[Sequence[str], Mapping[str, Labels], tuple[str, ...]]:
    """Return the images in use, their labels by kind, and the other files."""
    if not (folder / FILE_NAME).exists():
        files = files_in(folder)
        images = of_kind(files, SUFFIXES)
        beside = [name for name in pictures if (folder / IMAGES).is_dir() and (folder / name).is_dir()]
        if beside:
            images = [name for name in images if name.startswith(f"{IMAGES}/")]
            if not images:
                hint = f"put images there, as many as are in {' and '.join(beside)}"
                raise DataError("no image in this folder", place=str(folder / IMAGES), hint=hint)
            found = (pictures[name](folder, images, transform) for name in beside)
            labels = dict(kind for kinds in found for kind in kinds.items())
            others = tuple(name for name in files if name.split("/")[0] not in (IMAGES, *beside))
            return images, labels, others
        drawn = annotated(folder, images)
        if drawn is not None:
            # What they list is what is used.
            return drawn.files, {BOXES: drawn.located(folder, transform)}, ()
    return listed(folder, SUFFIXES, "image", transform.preprocessing.class_order)


def one_input(inputs: Mapping[str, Transform], folder: Path) -> tuple[str, Transform]:
    """Return the only input; raises DataError where there are several."""
    if len(inputs) > 1:
        hint = "give a .npz file that holds an array for each, of its name"
        raise DataError(
            f"images are one input, but the network takes {', '.join(inputs)}", place=str(folder), hint=hint
        )
    (one,) = inputs.items()
    return one


def only_input(inputs: Mapping[str, Transform], folder: Path) -> tuple[str, Transform]:
    """Return the input that images go to; raises DataError where there are several, or it takes no images."""
    name, transform = one_input(inputs, folder)
    if not transform.is_image or transform.channels not in (1, 3):
        shape = list(transform.sample_shape)
        hint = "give a .npy or .npz file, or set layout to the one that the network wants"
        if len(shape) == 1:
            rows = f"rows of {shape[0]} numbers (x of [N, {shape[0]}] in a .npy file)"
            hint = f"give flat images, {rows}, or export the network with its reshape, from images on"
        raise DataError(f"images do not fit a network that takes {shape}", place=str(folder), hint=hint)
    return name, transform
