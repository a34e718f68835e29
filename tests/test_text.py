"""Numbers in words: rounded alike, wherever they stand."""

import pytest

from snnc.text import brackets, exact, fixed, number, percent, signed, span, written


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
