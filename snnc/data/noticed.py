"""What is odd about data, noticed in listing and in reading it, and told as findings."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath, PurePosixPath
from typing import Final, final

from snnc.data.labels import Classes
from snnc.findings import Finding

# Files that lie beside samples without being any.
_DOCUMENTS = {"", ".csv", ".html", ".json", ".log", ".md", ".pdf", ".py", ".rst", ".txt", ".xml", ".yaml", ".yml"}
# Of values with fewer bits, the high byte of 16 is dark.
_BITS: Final = 14
# No image that is scaled and normalized has such values; its pixels may.
_FAR, _BRIGHTEST = 20.0, 255.0
_NAMED = 3


@final
class Noticed:
    """What the samples that were read so far have in common with others, or have not.

    Threads add to it: sets that only grow, and largest values.
    """

    def __init__(self) -> None:
        self._gray: set[str] = set()
        # Of most data it is all images: so a number for each, not its place.
        self._colored: set[int] = set()
        self._deep: dict[str, int] = {}
        self._floats: dict[str, tuple[float, float]] = {}

    def gray(self, place: str) -> None:
        """Notice a gray image that is read as one in color."""
        self._gray.add(place)

    def colored(self, place: str) -> None:
        """Notice an image in color."""
        self._colored.add(hash(place))

    def deep(self, place: str, largest: int) -> None:
        """Notice an image of 16 bits, and its largest value."""
        self._deep[place] = largest

    def floats(self, array: str, lowest: float, highest: float) -> None:
        """Notice what real numbers in the shape of an image reach from and to."""
        low, high = self._floats.get(array, (lowest, highest))
        self._floats[array] = min(low, lowest), max(high, highest)

    def findings(self, scale: float) -> Iterator[Finding]:
        """Yield what is odd about it; ``scale`` is what pixels are multiplied by."""
        if self._gray:
            share = f"{len(self._gray)} of {len(self._gray) + len(self._colored)} images read"
            verb = "is" if len(self._gray) == 1 else "are"
            yield Finding(
                "gray-among-color",
                "info" if self._colored else "warning",
                "",
                f"{share} {verb} gray, one is {PurePath(min(self._gray)).name!r}: all three colors show the same",
                "right where the network was trained so, as most are; else leave them out",
            )
        largest = max(self._deep.values(), default=0)
        if self._deep and largest < 1 << _BITS:
            yield Finding(
                "values-of-few-bits",
                "warning",
                "",
                f"{len(self._deep)} images of 16 bits hold values up to {largest}: by their high byte, which is taken, "
                f"they are nearly black ({largest >> 8} of 255 at most)",
                "save their values as 8 bits, or scaled in a .npy file, as the network was trained on them",
            )
        for array, (lowest, highest) in sorted(self._floats.items()):
            if lowest >= 0 and _FAR < highest <= _BRIGHTEST and scale != 1:
                yield Finding(
                    "pixels-taken-as-scaled",
                    "warning",
                    "",
                    f"{array} holds real numbers up to {highest:g}, as pixels from 0 to 255 are, but real numbers are "
                    "taken as they are (already scaled)",
                    "save pixels as uint8; where the network takes 0 to 255, say so: --scale 1",
                )


def left_out(ignored: Sequence[str], used: int) -> Iterator[Finding]:
    """Yield the finding on files that are no samples, of which documents alone are nothing to be warned of."""
    if not ignored:
        return
    odd = [name for name in ignored if PurePosixPath(name).suffix.lower() not in _DOCUMENTS]
    shown = sorted(ignored, key=lambda name: (name not in odd, name))[:_NAMED]
    more = f" and {len(ignored) - _NAMED} more" if len(ignored) > _NAMED else ""
    files = "1 file" if len(ignored) == 1 else f"{len(ignored)} files"
    yield Finding(
        "files-left-out",
        "warning" if odd else "info",
        "",
        f"{files} beside the {used} samples left out: {', '.join(shown)}{more}",
        "samples are told by the ends of their names; save others in a format that is read, or move them away",
    )


def on_classes(classes: Classes | None, names: Sequence[str], order: str) -> Iterator[Finding]:
    """Yield what is odd about folders that are classes: their order, unless ``order`` states it, and what is below."""
    if classes is None or not classes.names or classes.stated:
        return
    folders = list(classes.names)
    natural = sorted(folders, key=in_natural_order)
    if folders != natural and order == "auto":
        number = next(at for at, (one, other) in enumerate(zip(folders, natural, strict=True)) if one != other)
        yield Finding(
            "class-order",
            "warning",
            "",
            f"class folders are numbered by the characters of their names: {folders[number]!r} is class {number}, and "
            f"{natural[number]!r} comes behind it",
            "as torchvision and Keras number them: say --class-order name, or --class-order natural where the network "
            "was trained otherwise",
        )
    deeper = [name for name in names if name.count("/") > 1]
    if deeper:
        folder, inner = deeper[0].split("/")[:2]
        yield Finding(
            "folders-below-classes",
            "warning",
            "",
            f"{len(deeper)} of {len(names)} samples lie in folders below a class folder, the first in "
            f"{folder + '/' + inner!r}: they count as {folder!r}",
            "give the folder of the classes itself, or list files and labels in labels.csv",
        )


def in_natural_order(name: str) -> tuple[tuple[str, int, str], ...]:
    """Return what names are sorted by where numbers in them count as numbers."""
    parts = re.findall(r"([0-9]+)|([^0-9]+)", name)
    return tuple((text, int(digits[:18]) if digits else -1, digits) for digits, text in parts)
