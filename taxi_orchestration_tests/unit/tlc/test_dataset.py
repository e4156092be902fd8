"""The data set: names, types, eras and aliases. No other Python module contains its name."""

import re
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET, AmbiguousColumnError, Column, DataSet, Era, recognize_label

ERAS: tuple[Era, ...] = ("A", "B", "C")


def test_no_other_module_names_the_data_set() -> None:
    kind = DATASET.label.split()[0]
    names = re.compile(rf"{DATASET.name}|{DATASET.pickup}|{DATASET.dropoff}|{kind}[ _-](taxi|trip)", re.IGNORECASE)
    folders = [PROJECT_DIRECTORY / name for name in ("taxi_orchestration", "taxi_orchestration_tests", "bench")]
    files = [path for folder in folders for path in folder.rglob("*.py") if names.search(path.read_text())]
    assert files == [PROJECT_DIRECTORY / "taxi_orchestration" / "tlc" / "dataset.py"]


def list_fields(era: Era, dataset: DataSet = DATASET) -> dict[str, str]:
    """Return the columns of a file of an era, with their Arrow types."""
    return {column.source_name: column.type_in_files(era) or "" for column in dataset.columns_of(era)}


def add_column(column: Column) -> DataSet:
    return replace(DATASET, columns=(*DATASET.columns, column))


def test_a_trip_has_21_columns_whose_names_need_no_quotes() -> None:
    names = [column.name for column in DATASET.columns]
    assert len(names) == len(set(names)) == 21
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert {DATASET.pickup, DATASET.dropoff} < set(names)


def test_every_column_and_its_codes_have_a_description() -> None:
    assert all(len(column.comment) > 20 and column.comment.endswith(".") for column in DATASET.columns)
    rate = next(column for column in DATASET.columns if column.name == "ratecodeid")
    assert rate.comment.startswith("Final rate code: 1 standard, 2 JFK, ")
    assert rate.comment.endswith(", 99 unknown.")


def test_every_type_is_an_arrow_type() -> None:
    for column in DATASET.columns:
        assert [str(pa.type_for_alias(name)) for name in column.types.values()] == list(column.types.values())


def test_eras_are_in_alphabetical_order() -> None:
    assert sorted(DATASET.eras, key=lambda era: DATASET.eras[era]) == sorted(DATASET.eras)
    assert all(era in DATASET.eras for column in DATASET.columns for era in column.types)


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
    assert DATASET.era_of(month) == era


def test_an_era_is_named_by_the_years_of_its_files() -> None:
    assert [DATASET.label_of(era) for era in ERAS] == ["2013 to 2023", "2023 to 2024", "since 2025"]
    one_year = replace(DATASET, eras={"A": date(2024, 1, 1), "B": date(2025, 1, 1)})
    assert one_year.label_of("A") == "2024"


def test_there_is_no_era_before_the_data_set_begins() -> None:
    with pytest.raises(ValueError, match="2013-07: the first month is 2013-08"):
        DATASET.era_of(date(2013, 7, 1))


def test_the_congestion_relief_fee_came_with_era_c() -> None:
    assert [len(DATASET.columns_of(era)) for era in ERAS] == [20, 20, 21]
    assert DATASET.columns_of("C")[-1].name == "cbd_congestion_fee"


def test_the_types_of_an_era_are_those_of_its_published_files() -> None:
    rate = next(column for column in DATASET.columns if column.name == "ratecodeid")
    assert [rate.type_in_files(era) for era in ERAS] == ["double", "int64", "int64"]
    assert (rate.type, rate.postgres_type) == ("int32", "integer")


@pytest.mark.parametrize("era", ERAS)
def test_the_columns_of_an_era_match_it_in_any_case_and_order(era: Era) -> None:
    shuffled = [(name.upper(), kind) for name, kind in reversed(list_fields(era).items())]
    match = DATASET.match(shuffled, era)
    assert (match.new, match.missing, match.other_types) == ((), (), {})
    assert match.names["vendorid"] == "VENDORID"


def test_new_missing_and_other_columns_are_distinguished() -> None:
    found = {name: kind for name, kind in list_fields("B").items() if name not in ("fare_amount", "ehail_fee")}
    match = DATASET.match([*(found | {"RatecodeID": "double"}).items(), ("Night_Fee", "double")], "B")
    assert (match.new, match.names["night_fee"]) == (("night_fee",), "Night_Fee")
    assert [column.name for column in match.missing] == ["fare_amount", "ehail_fee"]
    assert [column.name for column in match.missing_required] == ["fare_amount"]
    assert match.other_types == {"ratecodeid": "double, not int64"}


def test_a_required_column_of_a_later_era_is_not_required_of_older_files() -> None:
    dataset = add_column(Column("toll_road", "double", {"C": "double"}, "Toll of a road that was built in 2025."))
    missing = {era: [c.name for c in dataset.match(list_fields(era).items(), era).missing_required] for era in ERAS}
    assert missing == {"A": [], "B": [], "C": ["toll_road"]}


def test_a_column_of_a_later_era_is_known_in_an_older_file_and_not_required_there() -> None:
    match = DATASET.match(list_fields("C").items(), "B")
    assert (match.new, match.missing) == ((), ())
    assert match.names["cbd_congestion_fee"] == "cbd_congestion_fee"


def test_an_alias_stands_for_its_column_and_both_at_once_are_ambiguous() -> None:
    fee = Column("night_fee", "double", {"A": "double"}, "Fee of the night.", aliases=("Fee_At_Night",))
    dataset = add_column(fee)
    match = dataset.match([*list_fields("B").items(), ("fee_at_night", "double")], "B")
    assert (match.new, match.missing, match.names["night_fee"]) == ((), (), "fee_at_night")
    with pytest.raises(AmbiguousColumnError, match="night_fee and FEE_AT_NIGHT are both night_fee"):
        dataset.match([("night_fee", "double"), ("FEE_AT_NIGHT", "double")], "B")


def test_the_files_of_the_tlcs_other_data_sets_are_recognized_by_a_column() -> None:
    assert recognize_label(list_fields("C")) == DATASET.label
    assert recognize_label(["VendorID", "tpep_pickup_datetime"]) == "yellow taxi"
    assert recognize_label(["dispatching_base_num", "pickup_datetime"]) == "for-hire vehicles"
    assert recognize_label(["hvfhs_license_num", "dispatching_base_num"]) == "high-volume for-hire vehicles"
    assert recognize_label(["id"]) is None
