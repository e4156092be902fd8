"""Number formats for readers, and colours that people with colour blindness can distinguish."""

from datetime import UTC, date, datetime
from itertools import combinations, pairwise

import numpy as np
import pytest

from taxi_orchestration.report.formats import (
    format_bytes,
    format_change,
    format_count,
    format_day,
    format_list,
    format_moment,
    format_money,
    format_percent,
)
from taxi_orchestration.report.palette import DARK, LIGHT, with_colours

# The simulation matrices of Machado, Oliveira and Fernandes (2009), severity 1.
COLOUR_VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}
PALETTES = pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])


def linearize(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def compute_contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted(float(linearize(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def convert_to_lab(colour: str, vision: str) -> np.ndarray:
    rgb = np.clip(COLOUR_VISION[vision] @ linearize(colour), 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    x, y, z = np.array([v if v > 0.2069 else 0 for v in np.cbrt(xyz / [0.9505, 1, 1.089])])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (974, "974"),
        (2_920, "2,920"),
        (56_551, "56,600"),
        (999_499, "999,000"),
        (999_900, "1 million"),
        (1_312_456, "1.31 million"),
        (75_000_000, "75 million"),
        (1_200_000_000, "1.2 billion"),
    ],
)
def test_counts_have_three_significant_digits_and_millions_are_written_as_a_word(value: float, words: str) -> None:
    assert format_count(value) == words


def test_small_amounts_have_cents_and_the_minus_is_before_the_dollar_sign() -> None:
    assert [format_money(v) for v in (12.4, -3, 56_551, 1_560_000)] == ["$12.40", "-$3.00", "$56,600", "$1.56 million"]


def test_shares_have_at_most_two_significant_digits() -> None:
    shares = (0, 0.474, 0.0316, 0.00042, 1 / 1_500_000)
    assert [format_percent(v) for v in shares] == ["0%", "47%", "3.2%", "0.04%", "0.00007%"]


def test_sizes_from_a_tenth_of_a_megabyte_are_in_megabytes() -> None:
    assert [format_bytes(v) for v in (0, 1_449, 99_949, 100_000, 33_000_000)] == [
        "0.0 kB",
        "1.4 kB",
        "99.9 kB",
        "0.1 MB",
        "33.0 MB",
    ]


def test_changes_times_days_and_lists_are_formatted_as_text() -> None:
    assert [format_change(v, 100) for v in (112, 97, 100.2)] == ["12% more", "3.0% fewer", "as many"]
    assert format_moment(datetime(2024, 7, 1, 3, 5, tzinfo=UTC)) == "2024-06-30 23:05"
    assert format_day(date(2022, 2, 4)) == "Friday, 4 February 2022"
    assert [format_list(list(items)) for items in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]


@PALETTES
def test_text_has_enough_contrast_to_its_background(palette: dict[str, str]) -> None:
    for text in ("ink", "muted", "accent"):
        assert compute_contrast(palette[text], palette["page"]) >= 4.5, text
        assert compute_contrast(palette[text], palette["card"]) >= 4.5, text


@PALETTES
def test_marks_have_enough_contrast_to_the_page(palette: dict[str, str]) -> None:
    marks = ["before", "good", "bad", *(name for name in palette if name.startswith("category"))]
    for mark in marks:
        assert compute_contrast(palette[mark], palette["page"]) >= 3, mark


@PALETTES
@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_the_colours_of_categories_differ_with_every_colour_vision(palette: dict[str, str], vision: str) -> None:
    colours = [colour for name, colour in palette.items() if name.startswith("category")]
    for one, other in combinations(colours, 2):
        assert np.linalg.norm(convert_to_lab(one, vision) - convert_to_lab(other, vision)) >= 10, (one, other)


@PALETTES
@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_colour_steps_change_lightness_in_one_direction_with_every_colour_vision(
    palette: dict[str, str], vision: str
) -> None:
    steps = [convert_to_lab(palette[f"step-{number}"], vision) for number in range(1, 8)]
    assert all(np.linalg.norm(one - other) >= 8 for one, other in pairwise(steps))
    lightness = np.diff([step[0] for step in steps])
    assert (lightness > 0).all() or (lightness < 0).all()


def test_both_palettes_have_the_same_names_and_replace_the_variables_of_an_svg() -> None:
    assert LIGHT.keys() == DARK.keys()
    assert with_colours('fill="var(--ink)" x="var(--step-1)"', DARK) == f'fill="{DARK["ink"]}" x="{DARK["step-1"]}"'
