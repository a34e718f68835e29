"""Samples read again and again, thinned out or drawn; their values on disk; what sources have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pytest
import torch
from torch import Tensor

from snnc.data import store
from snnc.data.dataset import Dataset, Reading, open_dataset
from snnc.data.labels import CLASSES
from snnc.data.preprocessing import Preprocessing
from snnc.data.samples import DatasetSamples, MemorySamples, Samples
from snnc.data.source import Array, Source, sources
from snnc.data.store import FeedsStore, Store
from snnc.data.transform import Transform
from snnc.errors import DataError
from snnc.feeds import Feeds
from snnc.formats.verification import noise
from snnc.ir import Input
from tests.support import normal

PLAIN = Preprocessing(scale=1)
NUMBERS = {"x": (1,)}


def numbered(folder: Path, count: int) -> Dataset:
    """Samples whose only value is their number, labeled with ten times it."""
    path = folder / f"{count}.npz"
    if not path.exists():
        np.savez(path, x=np.arange(count, dtype=np.float32)[:, None], y=10 * np.arange(count))
    return open_dataset(path, PLAIN, NUMBERS)


def values(samples: Samples) -> Tensor:
    return torch.cat([feeds["x"] for feeds in samples.batches()])


# Samples.


@pytest.mark.parametrize(("count", "most"), [(1, 1), (5, 1), (7, 3), (10, 9), (64, 64), (64, 100), (1000, 333)])
@pytest.mark.parametrize("size", [1, 16, 1000])
def test_thinned_samples_are_spread_evenly(tmp_path: Path, count: int, most: int, size: int) -> None:
    wanted = torch.linspace(0, count - 1, min(count, most)).round()
    in_memory = MemorySamples(Feeds({"x": torch.arange(count).float()[:, None]}), size)
    for samples in (DatasetSamples(numbered(tmp_path, count), Reading(size), ""), in_memory):
        few = samples.thinned(most)
        assert len(few) == min(count, most)
        for _ in range(2):
            assert torch.equal(values(few)[:, 0], wanted)
        assert torch.equal(values(samples)[:, 0], torch.arange(count))


def test_only_samples_that_are_given_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    arrays = sources["arrays"]
    before = arrays.read

    def counted(source: Source, index: int) -> Mapping[str, np.ndarray]:
        read.append(index)
        return before(source, index)

    monkeypatch.setattr(arrays, "read", counted)
    told: list[tuple[str, int, int]] = []
    samples = DatasetSamples(numbered(tmp_path, 1000), Reading(2, 1), "reading", lambda *tell: told.append(tell))
    few = samples.thinned(4)
    assert read == []
    assert values(few).flatten().tolist() == read == [0, 333, 666, 999]
    assert told == [("reading", 0, 4), ("reading", 2, 4), ("reading", 4, 4)]


def test_labels_go_with_their_samples(tmp_path: Path) -> None:
    samples = DatasetSamples(numbered(tmp_path, 100), Reading(), "")
    labels = samples.thinned(3).labels(CLASSES)
    assert labels is not None
    assert labels.answers.tolist() == [0, 500, 990]
    assert noise({"x": Input((1,))}, 3, 0).labels(CLASSES) is None


def test_noise_is_drawn_again_from_its_seed() -> None:
    wanted = normal(70, 3, 4, 4, seed=5)
    drawn = noise({"x": Input((3, 4, 4))}, 70, 5)
    assert torch.equal(values(drawn), wanted)
    assert torch.equal(values(drawn), wanted)
    assert drawn.dataset is None
    assert not torch.equal(values(noise({"x": Input((3, 4, 4))}, 70, 6)), wanted)


# Several inputs.


def pair(folder: Path, **arrays: np.ndarray) -> Path:
    left, right = normal(6, 4).numpy(), normal(6, 2, 5, seed=1).numpy()
    np.savez(folder / "pair.npz", **{"left": left, "right": right, "y": np.arange(6)} | arrays)
    return folder / "pair.npz"


PAIR = {"left": (4,), "right": (2, 5)}


def test_every_input_gets_the_array_of_its_name(tmp_path: Path) -> None:
    dataset = open_dataset(pair(tmp_path), PLAIN, PAIR)
    assert dataset.shapes == PAIR
    assert dataset.name(2) == "left+right[2]"
    for index in range(6):
        sample = dataset.sample(index)
        assert torch.equal(sample["left"], normal(6, 4)[index])
        assert torch.equal(sample["right"], normal(6, 2, 5, seed=1)[index])
    for reading in (Reading(4, 2), Reading(1, 1), Reading(6)):
        batches = list(dataset.batches(reading))
        assert torch.equal(torch.cat([feeds["left"] for feeds in batches]), normal(6, 4))
        assert torch.equal(torch.cat([feeds["right"] for feeds in batches]), normal(6, 2, 5, seed=1))
    labels = dataset.labels(CLASSES)
    assert labels is not None
    assert labels.answers.tolist() == list(range(6))


def test_the_digest_is_of_all_inputs(tmp_path: Path) -> None:
    first = open_dataset(pair(tmp_path), PLAIN, PAIR).digest()
    assert open_dataset(pair(tmp_path), PLAIN, PAIR).digest() == first
    assert open_dataset(pair(tmp_path, right=np.zeros((6, 2, 5), np.float32)), PLAIN, PAIR).digest() != first


def test_an_input_called_y_is_no_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", u=normal(3, 4).numpy(), y=normal(3, 4).numpy())
    dataset = open_dataset(tmp_path / "a.npz", PLAIN, {"u": (4,), "y": (4,)})
    assert dataset.labels(CLASSES) is None
    assert torch.equal(dataset.sample(1)["y"], normal(3, 4)[1])


@pytest.mark.parametrize(
    ("arrays", "message", "place"),
    [
        ({"left": np.zeros((5, 4))}, "right holds 6 samples, but left holds 5", ":right"),
        ({"right": np.zeros((6, 2, 4))}, "right has shape [6, 2, 4], but the network takes [N, 2, 5]", ":right"),
        ({"left": np.full((6, 4), np.nan)}, "the value nan is not finite", ":left[0, 0]"),
        ({"y": np.zeros(5, int)}, "y has shape [5], but left holds 6 samples", ":y"),
    ],
)
def test_wrong_arrays_of_several(tmp_path: Path, arrays: dict[str, np.ndarray], message: str, place: str) -> None:
    path = pair(tmp_path, **arrays)
    with pytest.raises(DataError) as caught:
        list(open_dataset(path, PLAIN, PAIR).batches())
    assert caught.value.message == message
    assert caught.value.place == f"{path}{place}"
    assert caught.value.hint


def test_what_holds_one_input_is_refused_for_several(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4)))
    np.savez(tmp_path / "b.npz", left=np.zeros((2, 4)))
    messages = {
        tmp_path: "images are one input, but the network takes left, right",
        tmp_path / "a.npy": "one array, but the network takes left, right",
        tmp_path / "b.npz": "no array right, only: left",
    }
    for path, message in messages.items():
        with pytest.raises(DataError) as caught:
            open_dataset(path, PLAIN, PAIR)
        assert caught.value.message == message
        assert ".npz" in caught.value.hint or "savez" in caught.value.hint


# Sources.


@dataclass(frozen=True, eq=False)
class Recordings(Source):
    """Text files of numbers, one frame a line."""

    about: ClassVar[str] = "a .rec file"
    path: Path
    counts: tuple[int, ...]

    @classmethod
    def opens(cls, path: Path, inputs: Mapping[str, Transform]) -> bool:
        return path.suffix == ".rec"

    @classmethod
    def open(cls, path: Path, inputs: Mapping[str, Transform]) -> Self:
        return cls({}, 0, path, tuple(map(int, path.read_text().split())))

    @property
    def over_time(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.counts)

    def name(self, index: int) -> str:
        return str(index)

    def place(self, index: int) -> str:
        return f"{self.path}:{index}"

    def read(self, index: int) -> Mapping[str, Array]:
        return {"x": np.full((self.counts[index], 1), index, np.float32)}

    def digest(self, index: int) -> str:
        return str(index)


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_members", {**sources, "recordings": Recordings})


def test_every_source_says_what_it_opens() -> None:
    assert {"arrays", "images"} <= set(sources)
    assert all(kind.about for kind in sources.values())
    assert len({kind.about for kind in sources.values()}) == len(sources)
    # Of those that open whatever is left, one opens folders and one files.
    assert {name for name, kind in sources.items() if kind.general} == {"arrays", "images"}


def test_a_source_that_is_registered_is_opened(tmp_path: Path, recordings: None) -> None:
    path = tmp_path / "a.rec"
    path.write_text("3 3 3 3 3")
    dataset = open_dataset(path, PLAIN, NUMBERS)
    batches = list(dataset.batches(Reading(2, 2)))
    assert [feeds.over_time for feeds in batches] == [{"x"}] * 3
    assert [feeds["x"].shape for feeds in batches] == [(3, 2, 1), (3, 2, 1), (3, 1, 1)]
    assert torch.equal(torch.cat([feeds["x"] for feeds in batches], 1), torch.arange(5).float().expand(3, 5)[..., None])
    (few,) = DatasetSamples(dataset, Reading(), "").thinned(2).batches()
    assert few["x"][0].flatten().tolist() == [0, 4]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_samples_have_as_many_frames(batch_size: int, tmp_path: Path, recordings: None) -> None:
    path = tmp_path / "a.rec"
    # Whatever else is wrong behind it.
    path.write_text("3 3 4 3 3 -1")
    with pytest.raises(DataError, match="4 frames, where the sample before has 3") as caught:
        list(open_dataset(path, PLAIN, NUMBERS).batches(Reading(batch_size)))
    assert caught.value.place == f"{path}:2"


def test_what_can_be_opened_is_listed(tmp_path: Path, recordings: None) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / "a.txt", PLAIN, NUMBERS)
    assert caught.value.hint.startswith("give a folder of ")
    assert all(kind.about in caught.value.hint for kind in sources.values())
    assert "a .rec file, a .npy file (x) or a .npz file (x and y)" in caught.value.hint


# Values in memory, and on disk.


@pytest.fixture(params=["in memory", "on disk"])
def where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "on disk":
        monkeypatch.setattr(store, "memory", lambda: 0)


@pytest.mark.usefixtures("where")
@pytest.mark.parametrize("shape", [(3, 4, 5), (7,)])
def test_a_store_keeps_values_in_order(shape: tuple[int, ...], tmp_path: Path) -> None:
    values = normal(20, *shape)
    laid_out = values.contiguous(memory_format=torch.channels_last) if len(shape) == 3 else values
    kept = Store(tmp_path / "store", laid_out.split([8, 1, 11]))
    assert not list(tmp_path.iterdir()), "the file is still there"
    assert len(kept) == 20
    order = torch.tensor([3, 19, 0, 3])
    assert torch.equal(kept[order], values[order])
    chunks = list(kept.chunks(8))
    assert [len(chunk) for chunk in chunks] == [8, 8, 4]
    assert torch.equal(torch.cat(chunks), values)
    kept[order].fill_(9)
    assert torch.equal(kept[torch.arange(20)], values), "what was handed out is not a copy"


def test_all_stores_together_take_a_share_of_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = normal(20, 7)
    size = 20 * 7 * 4
    # Two have room beside each other, and as the second is joined it is there twice.
    monkeypatch.setattr(store, "memory", lambda: 3 * size * store._SHARE)
    stores = [Store(tmp_path / "store", values.split(6)) for _ in range(3)]
    assert [isinstance(kept._values, np.memmap) for kept in stores] == [False, False, True]
    del stores[0]
    stores.append(Store(tmp_path / "store", values.split(6)))
    assert [isinstance(kept._values, np.memmap) for kept in stores] == [False, True, False]
    assert all(torch.equal(kept[torch.arange(20)], values) for kept in stores)


def test_a_store_keeps_single_precision(tmp_path: Path) -> None:
    values = normal(4, 3).double()
    assert torch.equal(Store(tmp_path / "store", [values])[torch.arange(4)], values.float())


@pytest.mark.usefixtures("where")
def test_a_store_keeps_channels_innermost(tmp_path: Path) -> None:
    images = normal(9, 3, 4, 5)
    kept = Store(tmp_path / "store", images.split(4), channels_last=True)
    for chunk, wanted in zip(kept.chunks(4), images.split(4), strict=True):
        assert torch.equal(chunk, wanted)
        assert chunk.is_contiguous(memory_format=torch.channels_last)
        assert not chunk.is_contiguous()
    plain = Store(tmp_path / "store", images.contiguous(memory_format=torch.channels_last).split(4))
    assert plain[torch.arange(9)].is_contiguous()
    lines = normal(2, 3, 4).transpose(1, 2)
    assert torch.equal(next(Store(tmp_path / "store", [lines], channels_last=True).chunks(2)), lines)


@pytest.mark.usefixtures("where")
def test_a_store_of_feeds_keeps_every_input_of_a_sample(tmp_path: Path) -> None:
    feeds = Feeds(
        {
            "mask": torch.arange(27).view(9, 3).to(torch.uint8),
            "x": normal(9, 3, 4, 5),
            "frames": normal(6, 9, 2, seed=1).double(),
            "number": torch.arange(9) + 2**40,
        },
        ["frames"],
    )
    kept = FeedsStore(tmp_path / "store", feeds.split(4))
    assert not list(tmp_path.iterdir()), "the file is still there"
    assert len(kept) == 9
    for order in (torch.tensor([3, 8, 0, 3]), torch.tensor([5])):
        found, wanted = kept[order], feeds.taken(order)
        assert (list(found), found.over_time, found.samples) == (list(feeds), feeds.over_time, len(order))
        for name, tensor in wanted.items():
            single = tensor.float() if name == "frames" else tensor
            assert found[name].dtype == single.dtype
            assert torch.equal(found[name], single), name


# Integers and pixels.


def test_integers_are_taken_as_they_are_and_masks_too(tmp_path: Path) -> None:
    ids, mask = np.arange(12).reshape(4, 3) % 7, np.eye(4, 3) > 0
    np.savez(tmp_path / "a.npz", **{"input.ids": ids, "mask": mask, "x": normal(4, 2).numpy()})
    inputs = {"input_ids": Input((3,), "integer", 7), "mask": Input((3,), "integer"), "x": Input((2,))}
    how = Preprocessing(mean=(3.0,), std=(2.0,))
    (feeds,) = open_dataset(tmp_path / "a.npz", how, inputs).batches()
    assert feeds["input_ids"].tolist() == ids.tolist()
    assert feeds["mask"].tolist() == mask.tolist()
    assert torch.equal(feeds["x"], normal(4, 2))


@pytest.mark.parametrize("wrong", [7, -1, 2.5])
def test_a_number_that_is_no_place_in_the_list_is_named(wrong: float, tmp_path: Path) -> None:
    ids = np.zeros((4, 3), np.float32 if wrong == 2.5 else np.int64)
    ids[2, 1] = wrong
    np.savez(tmp_path / "a.npz", ids=ids)
    dataset = open_dataset(tmp_path / "a.npz", PLAIN, {"ids": Input((3,), "integer", 7)})
    with pytest.raises(DataError, match=rf"{wrong}.* is no whole number from 0 to 6 @ .*ids\[2\]") as caught:
        list(dataset.batches())
    assert caught.value.hint


def test_a_network_of_real_numbers_takes_no_integers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3), np.int64))
    with pytest.raises(DataError, match="x is of type int64"):
        open_dataset(tmp_path / "a.npz", PLAIN, {"ids": (3,)})


@pytest.mark.parametrize(
    ("numbers", "scale", "wanted"), [("real", 1 / 255, 1.0), ("pixel", 1 / 255, 255.0), ("pixel", 0.5, 127.5)]
)
def test_pixels_are_left_to_a_network_that_scales_them(
    numbers: Any, scale: float, wanted: float, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 3, 4, 4), 255, np.uint8))
    dataset = open_dataset(tmp_path / "a.npy", Preprocessing(scale=scale), {"x": Input((3, 4, 4), numbers)})
    assert dataset.sample(0)["x"].unique().tolist() == pytest.approx([wanted])


@pytest.mark.parametrize("kind", ["integer", "pixel"])
def test_what_is_drawn_for_an_input_is_what_it_takes(kind: Any) -> None:
    (drawn,) = noise({"x": Input((3, 5, 5), kind, 6 if kind == "integer" else 0)}, 40, 0).batches()
    assert torch.equal(drawn["x"], drawn["x"].round())
    assert (drawn["x"].min(), drawn["x"].max()) == (0, 5 if kind == "integer" else 255)
    (mask,) = noise({"x": Input((3, 5), "integer")}, 40, 0).batches()
    assert set(mask["x"].unique().tolist()) == {0, 1}
    assert bool((mask["x"][..., 0] == 1).all())


# Arrays over time.


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_an_array_with_one_axis_more_holds_frames(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npy":
        np.save(path, x)
    else:
        np.savez(path, x=x, y=np.arange(5) % 2)
    dataset = open_dataset(path, Preprocessing(mean=(0.5,)), {"x": (3,)})
    assert dataset.over_time
    batches = list(dataset.batches(Reading(2)))
    assert [feeds.over_time for feeds in batches] == [{"x"}] * 3
    found = torch.cat([feeds["x"] for feeds in batches], 1)
    np.testing.assert_allclose(found.numpy(), x.swapaxes(0, 1) - 0.5, atol=1e-6)
    labels = dataset.labels("classes")
    assert suffix == "npy" or (labels is not None and labels.answers.tolist() == [0, 1, 0, 1, 0])
    # A network that takes matrices sees still ones in the same file.
    assert not open_dataset(path, PLAIN, {"x": (4, 3)}).over_time


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_frames_of_an_array_are_images(tmp_path: Path, layout: Literal["nchw", "nhwc"]) -> None:
    x = np.random.default_rng(1).integers(0, 256, (2, 3, 6, 5, 3), np.uint8)
    np.save(tmp_path / "a.npy", x if layout == "nhwc" else np.moveaxis(x, -1, 2))
    how = Preprocessing(resize=(4, 4), channels="bgr")
    frames = open_dataset(tmp_path / "a.npy", how, {"x": (3, 4, 4)}).sample(1)["x"]
    np.save(tmp_path / "b.npy", x[1])
    still = open_dataset(tmp_path / "b.npy", how, {"x": (3, 4, 4)})
    assert torch.equal(frames, torch.stack([still.sample(number)["x"] for number in range(3)]))


def test_arrays_of_frames_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    frames, still = np.zeros((2, 3, 4), np.float32), np.zeros((2, 4), np.float32)
    wrong = {
        "x has shape [2, 3, 5], but the network takes [N, S, 4]": np.zeros((2, 3, 5), np.float32),
        "x holds no frame": frames[:, :0],
        "x holds no sample": frames[:0],
    }
    for message, x in wrong.items():
        np.savez(path, x=x)
        with pytest.raises(DataError) as caught:
            open_dataset(path, PLAIN, {"x": (4,)})
        assert caught.value.message == message
    np.savez(path, a=frames, b=still)
    with pytest.raises(DataError, match="a holds frames over time, but b none") as caught:
        open_dataset(path, PLAIN, {"a": (4,), "b": (4,)})
    assert "numpy.repeat" in caught.value.hint
    np.savez(path, ids=np.zeros((2, 3, 4), np.int64))
    with pytest.raises(DataError, match=r"ids has shape \[2, 3, 4\], but the network takes \[N, 4\]"):
        open_dataset(path, PLAIN, {"ids": Input((4,), "integer", 9)})
    frames[1, 2, 3] = np.nan
    np.savez(path, x=frames)
    with pytest.raises(DataError, match=r"nan is not finite @ .*:x\[1, 2, 3\]"):
        open_dataset(path, PLAIN, {"x": (4,)}).sample(1)


def test_a_tenth_is_held_out_always_the_same_and_no_sample_is_in_both_parts() -> None:
    values = torch.arange(57.0).view(57, 1)
    rest, held_out = MemorySamples(Feeds({"x": values}), 10).split()
    parts = [torch.cat([feeds["x"] for feeds in part.batches()]).flatten().tolist() for part in (rest, held_out)]
    assert len(parts[1]) == len(held_out) == 5
    assert sorted(parts[0] + parts[1]) == values.flatten().tolist()
    assert parts[0] == sorted(parts[0]) and parts[1] == sorted(parts[1])
    again = MemorySamples(Feeds({"x": values}), 3).split()
    assert torch.cat([feeds["x"] for feeds in again[1].batches()]).flatten().tolist() == parts[1]


def test_few_samples_cannot_spare_a_tenth() -> None:
    rest, held_out = MemorySamples(Feeds({"x": torch.zeros(19, 1)})).split()
    assert (len(rest), len(held_out), [*held_out.batches()]) == (19, 0, [])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell")
def test_what_was_read_from_disk_does_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "memory", lambda: 0)

    def mapped() -> int:
        return int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0]) << 10

    kept = Store(tmp_path / "store", (torch.full((4, 1 << 19), float(number)) for number in range(4)))
    before = mapped()
    assert [float(chunk.sum()) / chunk.numel() for chunk in kept.chunks(4)] == [0, 1, 2, 3]
    assert mapped() - before < 8 << 20
