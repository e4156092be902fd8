"""The contract of a green trip: names, types and eras."""

from datetime import date

import pyarrow as pa
import pytest

from taxi_orchestration.tlc.contract import ARROW_SCHEMA, COLUMNS, Era, columns_of, era_of, postgres_type_for

ERAS: tuple[Era, ...] = ("A", "B", "C")


def test_a_green_trip_has_21_columns_whose_names_need_no_quotes() -> None:
    names = [column.name for column in COLUMNS]
    assert len(names) == len(set(names)) == 21
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert ARROW_SCHEMA.names == names


def test_every_column_says_what_it_means() -> None:
    assert all(len(column.description) > 20 and column.description.endswith(".") for column in COLUMNS)


@pytest.mark.parametrize(
    ("month", "era"),
    [
        (date(2013, 8, 1), "A"),
        (date(2023, 1, 1), "A"),
        (date(2023, 2, 1), "B"),
        (date(2024, 12, 1), "B"),
        (date(2025, 1, 1), "C"),
        (date(2030, 1, 1), "C"),
    ],
)
def test_an_era_lasts_until_the_next_one_begins(month: date, era: Era) -> None:
    assert era_of(month) == era


def test_there_is_no_era_before_green_taxi_begins() -> None:
    with pytest.raises(ValueError, match="2013-07: the first month is 2013-08"):
        era_of(date(2013, 7, 1))


def test_the_congestion_relief_fee_came_with_era_c() -> None:
    assert [len(columns_of(era)) for era in ERAS] == [20, 20, 21]
    assert columns_of("C")[-1].name == "cbd_congestion_fee"


def test_the_types_of_the_eras_are_those_of_the_files_they_were_measured_on() -> None:
    rate = next(column for column in COLUMNS if column.name == "ratecodeid")
    assert [rate.type_in_files(era) for era in ERAS] == [pa.float64(), pa.int64(), pa.int64()]
    assert (rate.arrow_type, rate.postgres_type) == (pa.int32(), "integer")


@pytest.mark.parametrize(
    ("arrow", "postgres"),
    [
        (pa.int8(), "bigint"),
        (pa.uint64(), "bigint"),
        (pa.float32(), "double precision"),
        (pa.decimal128(15, 2), "double precision"),
        (pa.bool_(), "boolean"),
        (pa.large_string(), "text"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.date32(), "date"),
    ],
)
def test_a_new_column_gets_the_postgres_type_that_holds_its_values(arrow: pa.DataType, postgres: str) -> None:
    assert postgres_type_for(arrow) == postgres


@pytest.mark.parametrize(
    "arrow", [pa.timestamp("us", tz="UTC"), pa.list_(pa.int32()), pa.decimal128(38, 18), pa.binary(), pa.null()]
)
def test_a_new_column_without_a_settled_postgres_type_is_refused(arrow: pa.DataType) -> None:
    with pytest.raises(TypeError, match="settled are: integers"):
        postgres_type_for(arrow)
