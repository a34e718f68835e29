"""Documents of users: what YAML 1.2 has, and nothing that is large, deep or goes in circles."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from snnc import project, recipe
from snnc.documents import from_json, from_yaml, read_yaml, to_yaml
from snnc.errors import DataError, SnncError, UsageError

SCALARS: dict[str, object] = {
    "8": 8,
    "-8": -8,
    "017": 17,
    "0o17": 15,
    "0x1F": 31,
    "1e-3": 0.001,
    ".5": 0.5,
    "-.inf": float("-inf"),
    "true": True,
    "False": False,
    "~": None,
    "": None,
    "'8'": "8",
    # Numbers, switches and dates of YAML 1.1 are texts.
    "1_0": "1_0",
    "1:2:3": "1:2:3",
    "2024-02-31": "2024-02-31",
    "2024-02-03": "2024-02-03",
    "yes": "yes",
    "0b11": "0b11",
}
BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join(9 * [f'*a{i - 1}'])}]\n" for i in range(1, 9))
REFUSED = {
    "!!int x": "no int: 'x'",
    "!!int ''": "no int",
    "!!float _": "no float",
    "!!bool maybe": "no bool",
    "!!timestamp 2001-12-14": "no type of YAML 1.2",
    "!!python/name:os.system": "no type of YAML 1.2",
    "!!set {a, b}": "no type of YAML 1.2",
    "!!binary aGk": "no type of YAML 1.2",
    "9" * 5000: "a number of 5,000 characters",
    "{a: 1, a: 2}": "the key a twice",
    "{1: a, 0x1: b}": "the key 1 twice",
    "[a, b]: c": "a key that is no text",
    "&a [*a]": "an alias of what it stands in",
    "&a {b: {c: *a}}": "an alias of what it stands in",
    BOMB: "more than 100,000 values",
    "[" * 60 + "]" * 60: "nested more than 48 deep",
    "[" * 9000: "nested more than 48 deep",
    "- " * 1200: "nested more than 48 deep",
    "x" * 300_000: "more than 262,144 characters",
    '"\\0"': "characters that no text has",
    '{"\\ud800": 1}': "characters that no text has",
    "a\n--- b": "but found another document",
    '"\\UA0010000"': "check it",
    '"\\U00110000"': "check it",
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_are_those_of_the_core_schema(text: str) -> None:
    assert repr(from_yaml(text, place="")) == repr(SCALARS[text])
    assert repr(from_yaml(f"[{text}]" if text else "[~]", place="")) == repr([SCALARS[text]])


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_anything_else_is_one_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not valid YAML @ here") as caught:
        from_yaml(text, place="here")
    assert REFUSED[text] in caught.value.hint
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SnncError):
        recipe.load(str(path))
    (tmp_path / project.FILE).write_text(f"timesteps: {text}", encoding="utf-8")
    with pytest.raises(SnncError):
        project.read(tmp_path)


@pytest.mark.parametrize("value", ["8", "true", "~", "", "1e-3", "0x1f", "a: b", "- x", None, True, 8, 1e-5, [1, {}]])
def test_what_is_written_is_what_is_read(value: Any) -> None:
    assert repr(from_yaml(to_yaml({"a": value}), place="")) == repr({"a": value})


@pytest.mark.parametrize("value", ["1_0", "1:2:3", "2024-02-03", "!!int x", "0b11"])
def test_what_looks_like_a_number_is_none(value: str, tmp_path: Path) -> None:
    (tmp_path / project.FILE).write_text(f"timesteps: {value}", encoding="utf-8")
    with pytest.raises(UsageError, match=project.FILE):
        project.read(tmp_path)
    with pytest.raises(UsageError):
        recipe.load("default", overrides=[f"passes.calibrate-thresholds.percentile={value}"])


def test_json_is_read_within_limits() -> None:
    assert from_json(b'{"a": [1, 2.5, "x", null]}') == {"a": [1, 2.5, "x", None]}
    for text in ("[" * 60 + "]" * 60, "[" * 100_000, "NaN", "1e999", "9" * 5000, "Infinity", "{", '{"a": 1, "a": 1}'):
        with pytest.raises(ValueError, match=r"."):
            from_json(text.encode())


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe, device, folder = tmp_path / "pipe", tmp_path / "zero", tmp_path / "folder"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    folder.mkdir()
    for path, what in ((pipe, "a pipe"), (device, "a device"), (folder, "a folder")):
        with pytest.raises(DataError, match=f"not a file but {what}"):
            read_yaml(path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(DataError, match="larger than 262,144 bytes"):
        read_yaml(large)
    with pytest.raises(DataError, match="no such file"):
        read_yaml(Path("a\0b"))


def test_texts_of_the_project_file_name_files(tmp_path: Path) -> None:
    (tmp_path / project.FILE).write_text(json.dumps({"model": "a\0b.onnx"}), encoding="utf-8")
    with pytest.raises(UsageError, match="not valid YAML"):
        project.read(tmp_path)
