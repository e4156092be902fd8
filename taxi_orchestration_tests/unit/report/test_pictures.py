"""Each picture of the report: its question, its sentence computed from the frames, its table and its drawing."""

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from taxi_orchestration.report import pictures
from taxi_orchestration.report.drawing import draw_svg
from taxi_orchestration.report.frames import COLUMNS, Frames, empty_frame
from taxi_orchestration.report.page import CHAPTERS
from taxi_orchestration.report.palette import LIGHT
from taxi_orchestration.report.pictures import (
    calendar_of_days,
    largest_change,
    month_number,
    round_steps,
    with_year_before,
)
from taxi_orchestration_tests.support.report_frames import synthetic_frames

MAKERS = [make for chapter in CHAPTERS for make in chapter.pictures]
ALL_MAKERS = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@pytest.fixture(scope="module")
def frames() -> Frames:
    """Frames of fourteen months, one of them with an empty file."""
    return synthetic_frames("2023-01", 14, empty=("2023-05",))


@ALL_MAKERS
def test_a_picture_has_a_question_a_sentence_a_table_and_can_be_drawn(frames: Frames, make) -> None:  # type: ignore[no-untyped-def]
    picture = make(frames)
    assert picture.question.endswith("?")
    assert picture.sentence.endswith(".")
    assert "nan" not in f"{picture.sentence} {picture.note}".lower()
    assert picture.table.rows
    assert {len(row) for row in picture.table.rows} == {len(picture.table.columns)}
    for panel in picture.panels:
        # Only this test validates: validation takes most of the time of a page.
        panel.chart.to_dict(validate=True)
        svg = draw_svg(panel.chart, picture.data, 400, LIGHT)
        assert svg.startswith("<svg")
        assert "var(--" not in svg
        assert "NaN" not in svg


@ALL_MAKERS
@pytest.mark.parametrize("months", [0, 1])
def test_without_a_month_there_is_no_picture_and_one_month_is_enough(make, months: int) -> None:  # type: ignore[no-untyped-def]
    picture = make(synthetic_frames(months=months))
    assert (picture is not None) == bool(months)
    if picture:
        assert "nan" not in picture.sentence.lower()


@ALL_MAKERS
def test_a_file_without_rows_puts_no_nan_into_a_picture(make) -> None:  # type: ignore[no-untyped-def]
    picture = make(synthetic_frames(months=1, empty=("2024-01",)))
    assert picture is None or "nan" not in picture.sentence.lower()


def test_months_are_compared_only_with_months_that_are_there() -> None:
    months = synthetic_frames("2023-01", 26).months
    known = months[months["month"] != "2023-02-01"]
    compared = with_year_before(known, ["trips"]).set_index("month")["before_trips"]
    assert compared["2024-01-01"] == months["trips"].iloc[0]
    assert pd.isna(compared["2024-02-01"])
    assert pd.isna(compared["2023-03-01"])


def test_the_sentence_of_trips_names_the_newest_month_that_is_loaded_and_built(frames: Frames) -> None:
    months = frames.months.assign(trips=range(10_000, 10_000 + 100 * len(frames.months), 100))
    months["is_complete"] = months["month"] != "2024-02-01"
    picture = pictures.trips_by_month(replace(frames, months=months))
    assert picture is not None
    assert picture.table.rows[-1][0] == "2024-01"
    assert picture.sentence == (
        "January 2024, the newest complete month, has 11,100 trips, 11% more than a year before; the most of all; "
        "the least is 10,000 in January 2023."
    )


def test_single_trips_of_months_without_a_file_are_not_drawn(frames: Frames) -> None:
    stray = pd.DataFrame([(pd.Timestamp("2009-01-01"), False, 1, 12.5, 1.0, 2.0, 3.0)], columns=list(COLUMNS["months"]))
    picture = pictures.trips_by_month(replace(frames, months=pd.concat([frames.months, stray])))
    assert picture is not None
    assert picture.table.rows[0][0] == "2023-01"


def test_the_shares_of_zones_add_up_to_one_and_a_zone_without_a_name_gets_one(frames: Frames) -> None:
    totals = pictures.zone_totals(replace(frames, zones=frames.zones[frames.zones["zone_id"] != 3]))
    for measure in ("pickups", "dropoffs", "total_amount"):
        assert totals[f"share_{measure}"].sum() == pytest.approx(1)
    assert totals.set_index("zone_id")["zone_name"][3] == "Zone 3"
    assert totals["pickups"].sum() == frames.months["trips"].sum()


@pytest.mark.parametrize("zones", range(3, 31))
def test_if_every_pickup_is_on_the_map_no_share_is_said_to_be_elsewhere(zones: int) -> None:
    picture = pictures.map_of_zones(synthetic_frames(months=1, zones=zones))
    assert picture is not None
    assert picture.note == ""


def test_without_shapes_there_is_a_reason_instead_of_a_map() -> None:
    picture = pictures.map_of_zones(synthetic_frames(shapes=False))
    assert picture is not None
    assert not picture.panels
    assert picture.note == "There is no map: the TLC's host has no taxi_zones.zip."
    assert pictures.top_zones(synthetic_frames(shapes=False)) is not None


def test_files_whose_rows_do_not_add_up_are_named_and_marked(frames: Frames) -> None:
    files = frames.pipeline.assign(
        raw_rows=frames.pipeline["raw_rows"] - (frames.pipeline["source_month"] == "2023-03-01")
    )
    picture = pictures.pipeline(replace(frames, pipeline=files))
    assert picture is not None
    assert picture.sentence == "In 1 of 14 files the rows do not add up: 2023-03. Run taxi backfill for these months."
    assert [row[0] for row in picture.table.rows if row[8] == "no"] == ["2023-03"]
    assert set(picture.data["files"]["state"]) == {"Adds up", "Does not add up", "Not loaded"}


def test_payment_types_beyond_the_number_of_colours_become_others() -> None:
    frames = synthetic_frames()
    many = [frames.payments.assign(payment_type_name=f"Type {n}", trips=n + 1) for n in range(9)]
    picture = pictures.payment_types(replace(frames, payments=pd.concat(many)))
    assert picture is not None
    assert set(picture.data["payments"]["kind"]) == {"Type 8", "Type 7", "Type 6", "Type 5", "Type 4", "Other"}
    assert picture.data["payments"]["trips"].sum() == sum(frame["trips"].sum() for frame in many)


def test_the_page_states_that_tips_in_cash_are_not_recorded(frames: Frames) -> None:
    picture = pictures.tips(frames)
    assert picture is not None
    assert "cash are not recorded" in picture.note
    assert picture.sentence == "Credit card: tips add 21% to the fare, $3.20 a trip."


def test_names_that_contain_quotes_are_escaped_in_an_expression(frames: Frames) -> None:
    name = 'it\'s "odd" \\ </script>'
    quality = frames.quality.assign(name=frames.quality["name"].replace("refund", name))
    payments = frames.payments.assign(payment_type_name=frames.payments["payment_type_name"].replace("Cash", name))
    odd = replace(frames, quality=quality, payments=payments)
    for make in (pictures.quality, pictures.payment_types, pictures.tips):
        picture = make(odd)
        assert picture is not None
        for panel in picture.panels:
            assert "<path" in draw_svg(panel.chart, picture.data, 300)


def test_colour_steps_increase_even_if_all_days_are_equal() -> None:
    assert round_steps(pd.Series([5] * 30)) == [5, 6, 7, 8, 9, 10]
    assert round_steps(pd.Series(range(700))) == [100, 200, 300, 400, 500, 600]


def test_the_number_of_a_month_does_not_depend_on_a_time_zone() -> None:
    assert month_number(pd.Series(pd.to_datetime(["2024-01-01", "2023-12-31"]))).tolist() == [24288, 24287]


def test_a_frame_that_lacks_a_column_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="frame days of the report lacks the columns trips"):
        replace(synthetic_frames(), days=empty_frame("days").drop(columns="trips"))


def test_the_calendar_finds_a_pandemic_and_a_congestion_fee_from_the_data_alone() -> None:
    before = synthetic_frames("2019-10", 12)
    days = before.days.assign(trips=np.where(before.days["day"] >= pd.Timestamp("2020-03-17"), 800, 12_000))
    calendar = calendar_of_days(replace(before, days=days))
    assert calendar
    sentence = calendar.sentence
    change = "The largest change is about Tuesday, 17 March 2020: in the four weeks before a usual day has 12,000"
    assert change in sentence
    assert "from then on 800." in sentence
    assert "fee" not in sentence

    winter = synthetic_frames("2024-12", 3)
    stray = winter.days["day"] == pd.Timestamp("2024-12-03")
    paid = np.where(winter.days["day"] >= pd.Timestamp("2025-01-05"), winter.days["trips"] // 14, stray * 1)
    calendar = calendar_of_days(replace(winter, days=winter.days.assign(trips_with_cbd_fee=paid)))
    assert calendar
    assert "The fee of Manhattan's congestion zone is paid from Sunday, 5 January 2025 on." in calendar.sentence
    assert "A dot marks the days" in calendar.note
    assert calendar.data["days"]["has_fee"].sum() == 27 + 28
    assert sum(row[3] for row in calendar.table.rows) == paid.sum()
    # The synthetic days differ only by chance.
    assert "largest change" not in calendar.sentence


def test_if_the_congestion_fee_began_in_a_gap_no_day_is_named_as_its_first() -> None:
    winter = synthetic_frames("2024-12", 3)
    paid = np.where(winter.days["day"] >= pd.Timestamp("2025-01-05"), 500, 0)
    months = winter.months[winter.months["month"] != "2025-01-01"]
    calendar = calendar_of_days(replace(winter, days=winter.days.assign(trips_with_cbd_fee=paid), months=months))
    assert calendar
    assert "is paid from" not in calendar.sentence
    assert "A dot marks the days" in calendar.note


def test_if_every_day_has_the_congestion_fee_no_day_is_named_as_its_first() -> None:
    winter = synthetic_frames("2025-02", 2)
    calendar = calendar_of_days(replace(winter, days=winter.days.assign(trips_with_cbd_fee=500)))
    assert calendar
    assert "congestion" not in calendar.sentence
    assert "A dot marks the days" in calendar.note


def test_a_change_is_found_only_where_eight_weeks_are_known() -> None:
    days = pd.DataFrame({"day": pd.date_range("2020-03-01", periods=60), "trips": [900] * 30 + [100] * 30})
    assert largest_change(days) == (date(2020, 3, 31), 900, 100)
    assert largest_change(days.head(55)) is None
    assert largest_change(days.drop(index=[5])) is None
    assert largest_change(days.assign(trips=0)) is None
