"""snnc init."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from snnc import project
from snnc.cli.application import commands
from snnc.errors import UsageError
from snnc.files import write_atomically
from snnc.text import counted, in_one_line

# What people call their data, the most telling first.
_EVALUATION = ("test", "validation", "valid", "val", "evaluation", "eval")
_CALIBRATION = ("calibration", "calib", "train", "training", "images", "data")
_FILES = {".npz", ".npy", ".tar", ".parquet"}
_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
# So many entries of a folder say what is in it.
_FEW = 200


@commands.register("init")
def init(force: Annotated[bool, typer.Option("--force", help="Overwrite the one that is there.")] = False) -> None:
    """Write a commented snnc.yaml into this folder, with the model and the data that lie here."""
    path, here = Path(project.FILE), Path()
    if path.exists() and not force:
        raise UsageError("there is one already", place=str(path), hint="overwrite it with --force")
    models, data = project.models_in(here), sorted(_data(here))
    evaluation = _called(_EVALUATION, data)
    calibration = _called(_CALIBRATION, data)
    others = [found.name for found in data if found.name not in (evaluation, calibration)]
    if calibration is None and evaluation is None and len(others) == 1:
        (calibration,) = others
    write_atomically(path, project.template(models, calibration, evaluation).encode())
    for line in _told(models, calibration, evaluation):
        typer.echo(in_one_line(line))
    typer.echo(f"written: {path}")


def _data(folder: Path) -> Iterator[Path]:
    """Yield what looks like data: array files, shards, and folders with images, which may be in one for each class."""
    for entry in folder.iterdir():
        inside = islice(entry.glob("**/*"), _FEW) if entry.is_dir() else ()
        array = entry.suffix in _FILES and entry.is_file()
        if not entry.name.startswith(".") and (array or any(file.suffix.lower() in _IMAGES for file in inside)):
            yield entry


def _called(names: tuple[str, ...], data: list[Path]) -> str | None:
    """Return the first of the data that is called so."""
    return next((found.name for name in names for found in data if found.stem.lower() == name), None)


def _told(models: list[str], calibration: str | None, evaluation: str | None) -> Iterator[str]:
    if len(models) == 1:
        yield f"found: {models[0]}, the model"
    elif models:
        yield f"found: several models ({', '.join(models)}): uncomment the line of the one that is meant"
    else:
        yield "found no model (.onnx, .pt): name it in the file"
    if calibration is not None:
        yield f"found: {calibration}, to calibrate on"
    if evaluation is not None:
        classes = sum(entry.is_dir() for entry in islice(Path(evaluation).glob("*"), _FEW))
        labels = f", with {counted(classes, 'class folder')}" if classes else ""
        yield f"found: {evaluation}, to evaluate on{labels}"
