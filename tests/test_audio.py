"""Audio files as samples of networks of one axis."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from snnc.data.audio_windows import AudioWindows
from snnc.data.dataset import Dataset, open_dataset
from snnc.data.preprocessing import Preprocessing, from_file
from snnc.errors import DataError, UsageError
from snnc.ir import Input

soundfile = pytest.importorskip("soundfile", reason="needs the extra snnc[audio]")

RATE = 8000


def tone(length: int, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(length) / rate)).astype(np.float32)


def save(path: Path, values: np.ndarray, rate: int = RATE, **options: Any) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, values, rate, **{"subtype": "FLOAT" if path.suffix == ".wav" else None, **options})
    return values


def opened(path: Path, shape: tuple[int, ...] = (100,), **how: Any) -> Dataset:
    return open_dataset(path, Preprocessing(audio=AudioWindows(**{"rate": RATE, **how})), {"x": shape})


def samples(dataset: Dataset) -> list[np.ndarray]:
    return [dataset.sample(index)["x"].numpy() for index in range(len(dataset))]


def fails(path: Path, shape: tuple[int, ...] = (100,), **how: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        samples(opened(path, shape, **how))
    assert caught.value.hint
    return caught.value


# Windows.


@pytest.mark.parametrize(
    ("how", "starts"),
    [
        ({}, [0, 100]),
        ({"hop": 60}, [0, 60, 120]),
        ({"hop": 60, "pad": True}, [0, 60, 120, 180]),
        ({"pad": True}, [0, 100, 200]),
        ({"windows": "first"}, [0]),
        ({"windows": "first", "pad": True}, [0]),
        ({"hop": 150}, [0, 150]),
    ],
)
def test_a_file_is_cut_into_windows_as_long_as_the_input(
    tmp_path: Path, how: dict[str, Any], starts: list[int]
) -> None:
    values = save(tmp_path / "a.wav", tone(250))
    dataset = opened(tmp_path / "a.wav", **how)
    filled = np.pad(values, (0, 100))
    found = samples(dataset)
    assert len(found) == len(starts)
    assert not dataset.over_time
    for window, start in zip(found, starts, strict=True):
        np.testing.assert_array_equal(window, filled[start : start + 100])
    names = [dataset.name(index) for index in range(len(dataset))]
    assert names == (["a.wav"] if "windows" in how else [f"a.wav[{start}]" for start in starts])


@pytest.mark.parametrize("length", [99, 100, 101, 160, 199, 200])
def test_padded_windows_hold_every_sample_and_others_only_whole_ones(tmp_path: Path, length: int) -> None:
    save(tmp_path / "a.wav", tone(length))
    for hop in (40, 100):
        padded = opened(tmp_path / "a.wav", hop=hop, pad=True)
        assert len(padded) == max(0, math.ceil((length - 100) / hop)) + 1
        if length >= 100:
            assert len(opened(tmp_path / "a.wav", hop=hop)) == (length - 100) // hop + 1


def test_windows_have_the_labels_of_their_files(tmp_path: Path) -> None:
    for at, name in enumerate(("no/a.flac", "no/b.wav", "yes/c.ogg")):
        save(tmp_path / name, tone(100 * (at + 1)))
    (tmp_path / "no" / "notes.txt").write_text("silence")
    dataset = opened(tmp_path)
    labels = dataset.labels("classes")
    assert labels is not None
    assert (labels.names, labels.answers.tolist()) == (("no", "yes"), [0, 0, 0, 1, 1, 1])
    assert dataset.ignored == ("no/notes.txt",)
    assert len({dataset.name(index) for index in range(6)}) == 6
    (tmp_path / "labels.csv").write_text("file,label\nyes/c.ogg,7\nno/a.flac,2\n")
    listed = opened(tmp_path, windows="first")
    labels = listed.labels("classes")
    assert labels is not None
    assert labels.answers.tolist() == [7, 2]
    assert [listed.name(index) for index in range(2)] == ["yes/c.ogg", "no/a.flac"]


def test_networks_take_channels_or_their_mean(tmp_path: Path) -> None:
    both = save(tmp_path / "a.wav", np.stack([tone(100), tone(100, hertz=700)], 1))
    (found,) = samples(opened(tmp_path / "a.wav", (2, 100)))
    np.testing.assert_array_equal(found, both.T)
    last = open_dataset(
        tmp_path / "a.wav", Preprocessing(layout="nhwc", audio=AudioWindows(RATE)), {"x": (100, 2)}
    ).sample(0)["x"]
    np.testing.assert_array_equal(last.numpy(), both)
    for shape in ((100,), (1, 100)):
        (mixed,) = samples(opened(tmp_path / "a.wav", shape, mix=True))
        assert mixed.shape == shape
        np.testing.assert_allclose(mixed.reshape(-1), both.mean(1), atol=1e-6)
        error = fails(tmp_path / "a.wav", shape)
        assert error.message == "2 channels, but the network takes 1"
        assert "mix" in error.hint
    save(tmp_path / "b.wav", tone(100))
    assert fails(tmp_path / "b.wav", (2, 100), mix=True).message == "1 channel, but the network takes 2"


def test_values_are_normalized(tmp_path: Path) -> None:
    values = save(tmp_path / "a.wav", tone(100))
    how = Preprocessing(mean=(0.1,), std=(0.5,), audio=AudioWindows(RATE))
    found = open_dataset(tmp_path / "a.wav", how, {"x": (100,)}).sample(0)["x"]
    np.testing.assert_allclose(found.numpy(), (values - 0.1) / 0.5, atol=1e-6)


# Rates.


@pytest.mark.parametrize("rate", [4000, 11025, 16000, 22050, 44100, 48000])
def test_files_of_other_rates_sound_the_same(tmp_path: Path, rate: int) -> None:
    """A tone below half of either rate is the same tone, in every window."""
    save(tmp_path / "a.wav", tone(rate, rate), rate)
    found = samples(opened(tmp_path / "a.wav", (1000,), resample=True))
    assert len(found) == 8
    wanted = tone(RATE)
    # Where the file begins and ends there is nothing to tell the tone from.
    np.testing.assert_allclose(np.concatenate(found)[200:-200], wanted[200:-200], atol=2e-3)
    overlapping = samples(opened(tmp_path / "a.wav", (1000,), resample=True, hop=500))
    np.testing.assert_allclose(overlapping[2], found[1], atol=1e-6)


def test_what_is_above_half_the_rate_is_gone(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(44100, 44100, hertz=5000), 44100)
    found = np.concatenate(samples(opened(tmp_path / "a.wav", (1000,), resample=True)))
    assert abs(found[200:-200]).max() < 5e-3


def test_it_resamples_as_scipy_does(tmp_path: Path) -> None:
    signal = pytest.importorskip("scipy.signal")
    noise = np.random.default_rng(0).standard_normal(16000)
    smooth = signal.sosfiltfilt(signal.butter(8, 2500, fs=16000, output="sos"), noise).astype(np.float32)
    save(tmp_path / "a.wav", smooth, 16000)
    (found,) = samples(opened(tmp_path / "a.wav", (8000,), resample=True))
    wanted = signal.resample_poly(smooth, 1, 2, window=("kaiser", 12.0))
    apart = found[300:-300] - wanted[300:-300]
    assert np.sqrt((apart**2).mean() / (wanted**2).mean()) < 2e-2


def test_a_wrong_rate_is_refused_by_both_names(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(44100, 44100), 44100)
    error = fails(tmp_path / "a.wav")
    assert error.message == "a rate of 44100 Hz, but the network was trained at 8000 Hz"
    assert error.place == str(tmp_path / "a.wav")
    assert "resample" in error.hint
    error = fails(tmp_path / "a.wav", windows="first")
    assert "44100 Hz" in error.message and "8000 Hz" in error.message
    with pytest.raises(DataError, match="nothing says at which rate the network was trained") as caught:
        open_dataset(tmp_path / "a.wav", Preprocessing(), {"x": (100,)})
    assert "audio: {rate: 44100}" in caught.value.hint


# What does not fit.


def test_files_that_are_too_short(tmp_path: Path) -> None:
    values = save(tmp_path / "a.wav", tone(99))
    assert fails(tmp_path).message == "99 samples at 8000 Hz, but the network takes 100"
    (found,) = samples(opened(tmp_path, pad=True))
    np.testing.assert_array_equal(found, np.pad(values, (0, 1)))
    save(tmp_path / "a.wav", tone(0))
    for how in ({}, {"pad": True}, {"windows": "first", "pad": True}):
        assert fails(tmp_path, **how).message == "0 samples at 8000 Hz, but the network takes 100"


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "ogg"])
def test_files_that_are_cut_short(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    save(path, np.random.default_rng(0).standard_normal(20000).astype(np.float32) * 0.1)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    error = fails(path)
    assert "cut short" in error.message or error.message.startswith("0 samples")
    assert error.place == str(path)


def test_a_stream_that_states_no_length_is_whole(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(100), subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(bytes(data))
    assert len(opened(tmp_path)) == 1


def test_files_that_are_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no")
    assert fails(tmp_path).message.startswith("cannot read this audio file: ")
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError):
        opened(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    values = tone(300)
    values[212] = value
    save(tmp_path / "a.wav", values)
    error = fails(tmp_path)
    assert error.message == "a value that is not finite, 0.026 s in"
    assert error.place == str(tmp_path / "a.wav")


@pytest.mark.parametrize("inputs", [{"x": (3, 8, 8)}, {"x": (1, 2, 3, 4)}, {"a": (8,), "b": (8,)}, {"x": ()}])
def test_networks_that_take_no_audio(tmp_path: Path, inputs: dict[str, tuple[int, ...]]) -> None:
    save(tmp_path / "a.wav", tone(300))
    with pytest.raises(DataError, match=r"audio does not fit|audio is one input"):
        open_dataset(tmp_path, Preprocessing(audio=AudioWindows(RATE)), inputs)
    with pytest.raises(DataError, match="audio does not fit"):
        open_dataset(tmp_path, Preprocessing(audio=AudioWindows(RATE)), {"x": Input((100,), "integer")})


def test_what_reads_it_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.wav", tone(300))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UsageError, match="audio files need the package soundfile") as caught:
        opened(tmp_path)
    assert caught.value.hint == "pip install 'snnc[audio]'"


def test_the_digest_is_of_what_is_on_disk(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(300))
    digests = {opened(tmp_path, **how).digest() for how in ({}, {"windows": "first"}, {"hop": 50})}
    assert len(digests) == 3
    assert opened(tmp_path).digest() in digests
    save(tmp_path / "a.wav", tone(300, hertz=441))
    assert opened(tmp_path).digest() not in digests


# As it is written down.


def test_it_is_written_under_preprocessing(tmp_path: Path) -> None:
    path = tmp_path / "preprocessing.yaml"
    path.write_text("mean: [0.1]\naudio: {rate: 16000, resample: true, hop: 80}\n")
    found = from_file(path)
    assert found == Preprocessing(mean=(0.1,), audio=AudioWindows(16000, resample=True, hop=80))
    for text, place in {
        "audio: {rat: 16000}": "audio",
        "audio: {hop: 0}": "audio",
        "audio: {windows: last}": "audio.windows",
        "audio: 16000": "audio",
    }.items():
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            from_file(path)
        assert caught.value.place == f"{path}.{place}"
