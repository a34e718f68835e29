"""Folders of numbered frames, as samples over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.preprocessing import Preprocessing
from snnc.errors import DataError

SEQUENCES = Preprocessing(scale=1, folders="sequences")
SHAPE = {"image": (3, 4, 4)}


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def sequence(folder: Path, names: tuple[str, ...] = ("1.png", "2.png", "3.png"), seed: int = 0) -> np.ndarray:
    """Frames in a folder, in the order of their names as they are given."""
    folder.mkdir(parents=True)
    frames = [pixels(4, 4, 3, seed=100 * seed + at) for at in range(len(names))]
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(folder / name)
    return np.stack(frames)


def opened(folder: Path) -> Dataset:
    return open_dataset(folder, SEQUENCES, SHAPE)


def test_every_folder_of_frames_is_a_sample(tmp_path: Path) -> None:
    names = ("f8.png", "f9.png", "f10.png")
    wanted = {f"{group}/{clip}": sequence(tmp_path / group / clip, names, at) for at, (group, clip) in enumerate(CLIPS)}
    (tmp_path / "run" / "b" / "notes.txt").write_text("no frame")
    dataset = opened(tmp_path)
    assert [dataset.name(index) for index in range(4)] == [*wanted]
    assert dataset.over_time
    assert dataset.ignored == ("run/b/notes.txt",)
    labels = dataset.labels("classes")
    assert labels is not None
    assert (labels.names, labels.answers.tolist()) == (("run", "walk"), [0, 0, 1, 1])
    (feeds,) = dataset.batches(Reading(9))
    assert feeds.over_time == {"image"}
    frames = np.stack([np.moveaxis(clip, -1, 1) for clip in wanted.values()], 1)
    assert torch.equal(feeds["image"], torch.from_numpy(frames.astype(np.float32)))


CLIPS = [("run", "a"), ("run", "b"), ("walk", "a"), ("walk", "b")]


def test_folders_by_themselves_have_no_labels_and_a_list_may_give_them(tmp_path: Path) -> None:
    for at, name in enumerate(("a", "b", "c")):
        sequence(tmp_path / name, seed=at)
    assert opened(tmp_path).labels("classes") is None
    (tmp_path / "labels.csv").write_text("file,label\nc,1\na,0\n")
    dataset = opened(tmp_path)
    labels = dataset.labels("classes")
    assert labels is not None
    assert labels.answers.tolist() == [1, 0]
    assert [dataset.name(index) for index in range(2)] == ["c", "a"]
    for wrong in ("d", "a/1.png"):
        (tmp_path / "labels.csv").write_text(f"file,label\n{wrong},1\n")
        with pytest.raises(DataError, match=r"labels.csv:2"):
            opened(tmp_path)


def test_frames_are_preprocessed_as_images_are(tmp_path: Path) -> None:
    frames = sequence(tmp_path / "a")
    how = Preprocessing(mean=(0.5,), resize=(2, 2), channels="bgr", folders="sequences")
    found = open_dataset(tmp_path, how, {"image": (3, 2, 2)}).sample(0)["image"]
    np.save(tmp_path / "still.npy", frames)
    still = open_dataset(tmp_path / "still.npy", how, {"image": (3, 2, 2)})
    assert torch.equal(found, torch.stack([still.sample(number)["image"] for number in range(3)]))
    gray = open_dataset(tmp_path, SEQUENCES, {"image": (1, 4, 4)}).sample(0)["image"]
    assert gray.shape == (3, 1, 4, 4)


@pytest.mark.parametrize(
    ("taken", "numbers"), [(1, [0]), (2, [0, 3]), (4, [0, 1, 3, 5]), (7, range(7)), (None, range(7))]
)
def test_of_each_so_many_frames_are_taken(tmp_path: Path, taken: int | None, numbers: Sequence[int]) -> None:
    frames = sequence(tmp_path / "a", tuple(f"{number}.png" for number in range(7)))
    how = Preprocessing(scale=1, folders="sequences", sequence_frames=taken)
    dataset = open_dataset(tmp_path, how, SHAPE)
    np.testing.assert_array_equal(dataset.sample(0)["image"].numpy(), np.moveaxis(frames[list(numbers)], -1, 1))
    assert dataset.digest() == opened(tmp_path).digest()


def test_without_being_told_so_folders_are_classes(tmp_path: Path) -> None:
    sequence(tmp_path / "a")
    dataset = open_dataset(tmp_path, Preprocessing(), SHAPE)
    assert not dataset.over_time
    assert len(dataset) == 3


def test_the_digest_is_of_names_and_frames(tmp_path: Path) -> None:
    sequence(tmp_path / "a")
    sequence(tmp_path / "b", seed=1)
    whole = opened(tmp_path).digest()
    assert whole == opened(tmp_path).digest()
    (tmp_path / "b" / "1.png").rename(tmp_path / "b" / "x")
    (tmp_path / "b" / "2.png").rename(tmp_path / "b" / "1.png")
    (tmp_path / "b" / "x").rename(tmp_path / "b" / "2.png")
    assert opened(tmp_path).digest() != whole


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("1.png", "2.png", "4.png"), "frame 3 is missing"),
        (("1.png", "2.png", "17.png"), "frames 3 to 16 are missing"),
        (("1.png", "01.png", "2.png"), "frame 1 is there twice, in '01.png' too"),
        (("1.png", "end.png", "2.png"), "a frame without a number"),
    ],
)
def test_frames_that_are_in_no_order(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    sequence(tmp_path / "a", names)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert caught.value.message == message
    assert str(tmp_path / "a") in caught.value.place
    assert "number" in caught.value.hint


def test_folders_that_hold_no_frames_or_other_ones(tmp_path: Path) -> None:
    sequence(tmp_path / "walk" / "a")
    (tmp_path / "walk" / "b").mkdir()
    with pytest.raises(DataError, match=f"no frame in this folder @ {tmp_path}/walk/b"):
        opened(tmp_path)
    (tmp_path / "walk" / "b" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="no frame in this folder"):
        opened(tmp_path)
    (tmp_path / "walk" / "b" / "notes.txt").unlink()
    (tmp_path / "walk" / "b").rmdir()
    sequence(tmp_path / "c")
    with pytest.raises(DataError, match="1 of 2 sequences lie beside the class folders, the first is 'c'"):
        opened(tmp_path)
    Image.fromarray(pixels(4, 4, 3)).save(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1 images lie beside the folders of sequences, the first is '1.png'"):
        opened(tmp_path)
    with pytest.raises(DataError, match=r"3 images lie in no folder of their own, the first is '1.png'"):
        opened(tmp_path / "c")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no frame in this folder"):
        opened(tmp_path / "none")


def test_frames_of_other_sizes_and_sequences_of_other_lengths(tmp_path: Path) -> None:
    sequence(tmp_path / "a")
    sequence(tmp_path / "b", ("1.png", "2.png"))
    with pytest.raises(DataError, match=f"2 frames, where the first sequence has 3 @ {tmp_path}/b") as caught:
        opened(tmp_path)
    assert "sequence-frames: 2" in caught.value.hint
    fewer = Preprocessing(folders="sequences", sequence_frames=3)
    with pytest.raises(DataError, match=f"2 frames, where sequence-frames is 3 @ {tmp_path}/b"):
        open_dataset(tmp_path, fewer, SHAPE)
    (tmp_path / "b" / "3.png").write_bytes((tmp_path / "b" / "1.png").read_bytes())
    Image.fromarray(pixels(5, 4, 3)).save(tmp_path / "a" / "2.png")
    with pytest.raises(DataError, match=r"a frame of 5 x 4 in a sequence of 4 x 4 .*a/2.png"):
        opened(tmp_path).sample(0)
    (tmp_path / "a" / "2.png").write_bytes(b"no")
    with pytest.raises(DataError, match=r"cannot read this image: .*a/2.png"):
        opened(tmp_path).sample(0)
    with pytest.raises(DataError, match=r"images do not fit a network that takes \[7\]"):
        open_dataset(tmp_path, SEQUENCES, {"x": (7,)})
