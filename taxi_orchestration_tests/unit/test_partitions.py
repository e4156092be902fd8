"""Months as text, as dates, as partitions, and as windows."""

import os
from datetime import UTC, date, datetime, timedelta

import pytest
from click.testing import CliRunner

from taxi_orchestration.cli.commands import BAD_INPUT, main
from taxi_orchestration.defs.raw_trips import LoadConfig
from taxi_orchestration.instance.partitions import monthly_partitions
from taxi_orchestration.months import (
    MonthError,
    Window,
    add_months,
    newest_month,
    next_month,
    parse_month,
    parse_partition_key,
    parse_range,
    partition_key,
    windows_of,
)
from taxi_orchestration.settings import load_settings
from taxi_orchestration.tlc.dataset import DATASET

NOW = datetime(2024, 5, 15, 12, tzinfo=UTC)


def test_at_most_32_months_are_loaded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert LoadConfig().months_at_once == 32
    shown = CliRunner().invoke(main, ["backfill", "2024-13", "2024-14"])
    assert "'2024-13' is not a month" in shown.output


def keys(now: datetime) -> list[str]:
    return list(monthly_partitions().get_partition_keys(now))


def test_partitions_begin_with_the_data_set_and_end_with_the_newest_possible_month() -> None:
    assert keys(NOW)[0] == "2013-08"
    assert keys(NOW)[-1] == "2024-03"
    assert len(keys(NOW)) == 5 + 10 * 12 + 3


@pytest.mark.parametrize(
    ("now", "newest"),
    [
        (datetime(2024, 1, 15, 0, 0, 0, tzinfo=UTC), "2023-11"),
        (datetime(2024, 1, 14, 23, 59, 59, tzinfo=UTC), "2023-10"),
        (datetime(2024, 3, 14, 23, 59, 59, tzinfo=UTC), "2023-12"),
        (datetime(2024, 3, 15, 0, 0, 0, tzinfo=UTC), "2024-01"),
        (datetime(2013, 10, 15, tzinfo=UTC), "2013-08"),
    ],
)
def test_a_month_is_a_partition_from_the_moment_it_can_be_published(now: datetime, newest: str) -> None:
    assert keys(now)[-1] == newest
    assert partition_key(newest_month(now)) == newest
    assert parse_month(newest, now) == parse_partition_key(newest)


@pytest.mark.parametrize("text", keys(NOW)[::17])
def test_a_partition_key_and_its_month_convert_into_each_other(text: str) -> None:
    assert partition_key(parse_partition_key(text)) == text
    assert parse_month(text, NOW) == parse_partition_key(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "2024", "2024-1", "2024-13", "2024-00", "24-01", "2024-01-32", "2024/01", "2024-01 ", " 2024-01"),
        *("2024-01\n", "January 2024", "-2024-01", "2024--1", "٢٠٢٤-٠١", "2024-0１", "2024‑01", "99999-01"),
        "2024-01'; drop table raw_trips; --",
    ],
)
def test_text_that_is_not_a_month_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MonthError, match=r"is not a month\. Write it as YYYY-MM, for example 2024-01"):
        parse_month(text, NOW)


@pytest.mark.parametrize("text", ["2013-07", "1999-12", "0001-01"])
def test_a_month_before_the_first_is_refused_and_the_error_names_the_first(text: str) -> None:
    with pytest.raises(MonthError, match=rf"{text} is before 2013-08, where {DATASET.label} begins"):
        parse_month(text, NOW)


def test_a_month_becomes_a_partition_42_to_45_days_after_its_end() -> None:
    for days in range(800):
        now = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days)
        newest = newest_month(now)
        assert keys(now)[-1] == partition_key(newest)
        assert now.date() - next_month(newest) >= timedelta(days=42)
        assert now.date() - next_month(next_month(newest)) < timedelta(days=45)


def test_a_later_first_month_limits_the_partitions_and_the_accepted_months(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAXI_FIRST_MONTH", "2024-02")
    first = load_settings().first_month
    assert list(monthly_partitions(first).get_partition_keys(NOW)) == ["2024-02", "2024-03"]
    with pytest.raises(SystemExit, match=str(BAD_INPUT)):
        main(["backfill", "2024-01"])
    assert "2024-01 is before 2024-02, the TAXI_FIRST_MONTH" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("text", ["2024-04", "2024-06", "9999-12"])
def test_a_month_too_new_to_be_published_is_refused_and_the_error_names_the_newest(text: str) -> None:
    with pytest.raises(MonthError, match=rf"{text} cannot be published yet: .* 2024-03, .* two months late"):
        parse_month(text, NOW)


def test_a_range_contains_both_its_ends() -> None:
    window = parse_range("2023-11", "2024-02", NOW)
    assert window == Window(date(2023, 11, 1), date(2024, 3, 1))
    assert [partition_key(month) for month in window.months] == ["2023-11", "2023-12", "2024-01", "2024-02"]
    assert str(window) == "2023-11 to 2024-02"


def test_a_range_of_one_month_is_that_month() -> None:
    window = parse_range("2023-12", "2023-12", NOW)
    assert window.months == [date(2023, 12, 1)]
    assert str(window) == "2023-12"


def test_a_range_that_runs_backwards_is_refused() -> None:
    with pytest.raises(MonthError, match="2024-02 to 2024-01 runs backwards: put the older month first"):
        parse_range("2024-02", "2024-01", NOW)


@pytest.mark.parametrize(("first", "last"), [("2013-07", "2024-01"), ("2024-01", "2024-04"), ("2024-01", "x")])
def test_both_ends_of_a_range_have_to_be_months_with_a_file(first: str, last: str) -> None:
    with pytest.raises(MonthError):
        parse_range(first, last, NOW)


def test_adding_months_crosses_new_year_in_both_directions() -> None:
    assert next_month(date(2023, 12, 1)) == date(2024, 1, 1)
    assert next_month(date(2024, 1, 1)) == date(2024, 2, 1)
    assert add_months(date(2024, 1, 1), -1) == date(2023, 12, 1)
    assert add_months(date(2023, 12, 1), 1) == date(2024, 1, 1)
    assert add_months(date(2024, 3, 1), -27) == date(2021, 12, 1)
    assert add_months(date(2024, 3, 1), 0) == date(2024, 3, 1)


def test_windows_are_the_fewest_that_contain_exactly_the_months() -> None:
    months = [date(2024, 1, 1), date(2023, 11, 1), date(2023, 12, 1), date(2024, 3, 1), date(2023, 12, 1)]
    windows = windows_of(months)
    assert windows == [Window(date(2023, 11, 1), date(2024, 2, 1)), Window(date(2024, 3, 1), date(2024, 4, 1))]
    assert [month for window in windows for month in window.months] == sorted(set(months))
    assert windows_of([]) == []
