"""Numbers in words: rounded alike, wherever they stand. Texts of others: harmless, wherever they are shown."""

from collections.abc import Callable

import pytest

from snnc.text import (
    as_it_is,
    brackets,
    exact,
    fixed,
    foreign,
    harmless,
    in_one_line,
    number,
    percent,
    printable,
    signed,
    span,
    written,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.31234, "0.3123"), (0.5, "0.5000"), (12.345, "12.35"), (999.94, "999.9"), (999.96, "1,000")],
)
def test_a_number_has_four_digits(value: float, text: str) -> None:
    assert number(value) == text
    assert number(-value) == (f"−{text}" if value else text)


def test_all_digits_before_the_point_are_written() -> None:
    assert number(1_234_567.8) == "1,234,568"


def test_a_count_has_no_decimals() -> None:
    assert [number(count) for count in (0, 5, -12, 12_345)] == ["0", "5", "−12", "12,345"]
    assert signed(3) == "+3"


def test_percent_and_points_have_hundredths_and_no_negative_nothing() -> None:
    assert [written(0.754, unit) for unit in ("points", " points", "%", "")] == ["0.75", "0.75", "0.75", "0.7540"]
    assert (written(-0.001, "%"), fixed(-0.001)) == ("0.00", "0.0")
    assert percent(0.1234) == "12.3 %"


def test_an_interval_is_rounded_as_its_figure_is() -> None:
    assert span((-0.126, 1.5), "points") == "−0.13 to 1.50"
    assert brackets((0.1, 1.5)) == "[0.1000, 1.500]"


def test_differences_have_a_sign_and_limits_are_as_they_were_chosen() -> None:
    assert [signed(value, "%") for value in (0.5, 0.0, -0.5)] == ["+0.50", "0.00", "−0.50"]
    assert [exact(value) for value in (1.0, 0.25, 100_000.0)] == ["1", "0.25", "100,000"]


HOSTILE = [
    "##[error]x",
    "::error::x",
    "  ::stop-commands::t",
    "a\n::error::x",
    "a\r\x1b[31mx\x07",
    "\x9b31m\x85",
    "\u202eabc\u2066",
    "a\u2028::error::b\u2029",
    "\udcff\udcfe",
    "###[x",
]


@pytest.mark.parametrize("show", [printable, foreign, in_one_line, as_it_is])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_commands_nobody(text: str, show: Callable[[str], str]) -> None:
    assert not harmless(text)
    shown = show(text)
    assert harmless(shown) and shown.isprintable()
    assert "##[" not in shown and not shown.lstrip().startswith("::")


def test_what_is_harmless_stays() -> None:
    for text in ("a::b", "# [x]", "std::vector", "日本語 ñ", "#[x]", "x ##"):
        assert harmless(text) and printable(text) == foreign(text) == in_one_line(text) == text


def test_long_texts_keep_their_ends() -> None:
    assert len(foreign("ab" * 10_000)) < 200 and foreign("ab" * 10_000).startswith("abab")
    said = in_one_line(f"unknown option '{'a' * 20_000}' @ snnc.yaml")
    assert said.startswith("unknown option 'aaa") and said.endswith("aaa' @ snnc.yaml") and len(said) < 300
    assert len(in_one_line("a b " * 10_000)) <= 600
