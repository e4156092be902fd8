"""The contract: the columns of a green trip, their types, the era they came with and what they mean.

DDL, casting, drift and documentation come from here. How a file is read is in parquet.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

import pyarrow as pa

Era = Literal["A", "B", "C"]
Kind = Literal["id", "code", "timestamp", "flag", "number", "unused"]

ERA_STARTS: Mapping[Era, date] = {"A": date(2013, 8, 1), "B": date(2023, 2, 1), "C": date(2025, 1, 1)}
"""The first month of each era; an era lasts until the next one begins."""

FIRST_MONTH = ERA_STARTS["A"]
"""The month in which green taxi begins."""

MAX_DECIMAL_DIGITS = 15
"""Decimals of up to 15 digits survive the way to double precision and back."""


@dataclass(frozen=True)
class _Types:
    """The target types of a kind of column, and the type in which each era's files carry it."""

    arrow: pa.DataType
    postgres: str
    in_files: Mapping[Era, pa.DataType]


_TYPES: Mapping[Kind, _Types] = {
    "id": _Types(pa.int32(), "integer", {"A": pa.int64(), "B": pa.int32(), "C": pa.int32()}),
    "code": _Types(pa.int32(), "integer", {"A": pa.float64(), "B": pa.int64(), "C": pa.int64()}),
    "timestamp": _Types(pa.timestamp("us"), "timestamp", dict.fromkeys(ERA_STARTS, pa.timestamp("us"))),
    "flag": _Types(pa.string(), "text", {"A": pa.string(), "B": pa.large_string(), "C": pa.large_string()}),
    "number": _Types(pa.float64(), "double precision", dict.fromkeys(ERA_STARTS, pa.float64())),
    "unused": _Types(pa.float64(), "double precision", {"A": pa.null(), "B": pa.float64(), "C": pa.float64()}),
}


@dataclass(frozen=True)
class Column:
    """One column of a green trip.

    A `required` column has a value in every row ever published; a file without it is refused.
    """

    source_name: str
    kind: Kind
    description: str
    since: Era = "A"
    required: bool = True

    @property
    def name(self) -> str:
        """The name in the warehouse, which needs no quotes."""
        return self.source_name.lower()

    @property
    def arrow_type(self) -> pa.DataType:
        """The type of the column in a batch on its way to the warehouse."""
        return _TYPES[self.kind].arrow

    @property
    def postgres_type(self) -> str:
        """The type of the column in the warehouse."""
        return _TYPES[self.kind].postgres

    def type_in_files(self, era: Era) -> pa.DataType:
        """The type that the column has in the files of an era."""
        return _TYPES[self.kind].in_files[era]


COLUMNS: tuple[Column, ...] = (
    Column(
        "VendorID",
        "id",
        "Code of the provider of the record: 1 Creative Mobile Technologies, 2 Curb Mobility (formerly VeriFone), "
        "6 Myle Technologies; 5 occurs undocumented.",
    ),
    Column("lpep_pickup_datetime", "timestamp", "When the meter was engaged: New York wall-clock time, no zone."),
    Column("lpep_dropoff_datetime", "timestamp", "When the meter was disengaged: New York wall-clock time, no zone."),
    Column(
        "store_and_fwd_flag",
        "flag",
        "Y where the record was held in the vehicle before it was sent, for want of a connection; N where not.",
        required=False,
    ),
    Column(
        "RatecodeID",
        "code",
        "Final rate code: 1 standard, 2 JFK, 3 Newark, 4 Nassau or Westchester, 5 negotiated, "
        "6 group ride, 99 unknown.",
        required=False,
    ),
    Column("PULocationID", "id", "TLC taxi zone in which the meter was engaged."),
    Column("DOLocationID", "id", "TLC taxi zone in which the meter was disengaged."),
    Column("passenger_count", "code", "Number of passengers, as entered by the driver.", required=False),
    Column("trip_distance", "number", "Trip distance in miles, as reported by the meter."),
    Column("fare_amount", "number", "Time-and-distance fare calculated by the meter, in US dollars."),
    Column("extra", "number", "Miscellaneous extras and surcharges, in US dollars."),
    Column("mta_tax", "number", "MTA tax, triggered by the metered rate in use, in US dollars."),
    Column("tip_amount", "number", "Tip in US dollars: filled in for card payments; cash tips are not included."),
    Column("tolls_amount", "number", "Total of all tolls paid in the trip, in US dollars."),
    Column("ehail_fee", "unused", "Fee for an e-hail in US dollars; no published month has a value.", required=False),
    Column(
        "improvement_surcharge",
        "number",
        "Improvement surcharge assessed at the flag drop, levied since 2015, in US dollars.",
        required=False,
    ),
    Column("total_amount", "number", "Total charged to passengers in US dollars; without cash tips."),
    Column(
        "payment_type",
        "code",
        "How the passenger paid: 0 flex fare, 1 credit card, 2 cash, 3 no charge, 4 dispute, 5 unknown, 6 voided trip.",
        required=False,
    ),
    Column(
        "trip_type",
        "code",
        "1 street-hail, 2 dispatch: assigned from the metered rate in use, alterable by the driver.",
        required=False,
    ),
    Column(
        "congestion_surcharge",
        "number",
        "New York State congestion surcharge, levied since 2019, in US dollars.",
        required=False,
    ),
    Column(
        "cbd_congestion_fee",
        "number",
        "MTA congestion relief zone charge per trip, levied since 5 January 2025, in US dollars.",
        since="C",
        required=False,
    ),
)
"""The columns of a green trip, in the order of the newest files."""

ARROW_SCHEMA: pa.Schema = pa.schema([pa.field(column.name, column.arrow_type) for column in COLUMNS])
"""The schema of a batch on its way to the warehouse, where the file brings no new column."""

PICKUP, DROPOFF = "lpep_pickup_datetime", "lpep_dropoff_datetime"


def era_of(month: date) -> Era:
    """The era whose columns and types a month's file is expected to have."""
    if month < FIRST_MONTH:
        raise ValueError(f"There are no green trips in {month:%Y-%m}: the first month is {FIRST_MONTH:%Y-%m}.")
    return max((era for era, start in ERA_STARTS.items() if start <= month), key=lambda era: ERA_STARTS[era])


def columns_of(era: Era) -> tuple[Column, ...]:
    """The columns that the files of an era have."""
    return tuple(column for column in COLUMNS if ERA_STARTS[column.since] <= ERA_STARTS[era])


def target_type_for(source: pa.DataType) -> pa.DataType | None:
    """The Arrow type in which a column that the contract does not know is carried; None where there is none."""
    types = pa.types
    if types.is_dictionary(source):
        return target_type_for(source.value_type)
    if types.is_integer(source):
        return pa.int64()
    if types.is_floating(source):
        return pa.float64()
    if types.is_decimal(source) and source.precision <= MAX_DECIMAL_DIGITS:
        return pa.float64()
    if types.is_boolean(source):
        return pa.bool_()
    if types.is_string(source) or types.is_large_string(source) or types.is_string_view(source):
        return pa.string()
    if types.is_timestamp(source) and source.tz is None:
        return pa.timestamp("us")
    if types.is_date(source):
        return pa.date32()
    return None


_POSTGRES_TYPES: Mapping[pa.DataType, str] = {
    pa.int64(): "bigint",
    pa.float64(): "double precision",
    pa.bool_(): "boolean",
    pa.string(): "text",
    pa.timestamp("us"): "timestamp",
    pa.date32(): "date",
}


def postgres_type_for(source: pa.DataType) -> str:
    """The Postgres type of a column that the contract does not know; TypeError where there is none."""
    target = target_type_for(source)
    if target is None:
        known = "integers, floats, decimals of up to 15 digits, booleans, text, timestamps without a zone, dates"
        raise TypeError(f"No column type is settled for the Arrow type {source}; settled are: {known}.")
    return _POSTGRES_TYPES[target]
