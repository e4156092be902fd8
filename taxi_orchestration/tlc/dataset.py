"""The data set of this project: its name and label, its files, its first month, and its columns by era.

Whatever is specific to one data set of the TLC is in DATASET, and the other modules read it from there. This module
imports nothing heavy, because every `taxi` command imports it. Casts of Arrow's types belong to contract.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

Era = str
"""A period whose files all have the same columns and types. Eras are named in alphabetical order."""

POSTGRES_TYPES: Mapping[str, str] = {
    "int32": "integer",
    "int64": "bigint",
    "double": "double precision",
    "bool": "boolean",
    "string": "text",
    "timestamp[us]": "timestamp without time zone",
    "date32[day]": "date",
}
"""The PostgreSQL type, spelled as by format_type, of each Arrow type of the batches, by the Arrow type's name."""


class AmbiguousColumnError(ValueError):
    """Two columns of a file match the same column of the data set."""


@dataclass(frozen=True)
class Column:
    """One column of a trip, with its Arrow `type` in the batches and its `types` in the files by era.

    `types` lists the eras in which the type changed: an era before the first of them lacks the column. A `required`
    column has a value in every row of its eras; a file without a required column is refused. `aliases` are other names
    of the column in files, `codes` the known values with their meanings.
    """

    source_name: str
    type: str
    types: Mapping[Era, str]
    description: str
    required: bool = True
    aliases: tuple[str, ...] = ()
    codes: Mapping[int | str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the name in the warehouse, which needs no quotes."""
        return self.source_name.lower()

    @property
    def postgres_type(self) -> str:
        """Return the type in the warehouse; a `type` that is no Arrow type is already a PostgreSQL type."""
        return POSTGRES_TYPES.get(self.type, self.type)

    @property
    def comment(self) -> str:
        """Return the description of the column, with the meaning of each code."""
        codes = ", ".join(f"{code} {meaning}" for code, meaning in self.codes.items())
        return f"{self.description.removesuffix('.')}: {codes}." if codes else self.description

    def type_in_files(self, era: Era) -> str | None:
        """Return the type in the files of an era; None if these files lack the column."""
        since = max((changed for changed in self.types if changed <= era), default=None)
        return None if since is None else self.types[since]


KEY_COLUMNS = (
    Column("source_month", "date32[day]", {}, "Month of the file, as its first day. The partition key."),
    Column("source_row", "int32", {}, "Position of the row in its file, from 1."),
)
"""The key columns of raw_trips, which no file has."""

ZONE_COLUMNS = (
    Column("LocationID", "int32", {}, "Number of the taxi zone."),
    Column("Borough", "string", {}, "Borough of the zone, or EWR, Unknown or N/A."),
    Column("Zone", "string", {}, "Name of the zone; 'N/A' is a value, and two names occur more than once."),
    Column("service_zone", "string", {}, "The TLC's service zone."),
)
"""The columns of the zone table, a CSV file that all data sets share."""

ZONE_SHAPE_COLUMNS = (
    Column("zone_id", "int32", {}, "Number of the taxi zone, as in raw_zones."),
    Column("borough", "string", {}, "Borough of the zone."),
    Column("zone_name", "string", {}, "Name of the zone."),
    Column(
        "polygons",
        "jsonb",
        {},
        "The outline as coordinates of a GeoJSON MultiPolygon in feet of the New York State Plane (EPSG 2263), "
        "simplified to 250 feet with shared borders kept.",
    ),
)
"""The columns of the zones' shapes, read from a zip file that all data sets share."""


@dataclass(frozen=True)
class ColumnMatch:
    """The columns of a file compared with those of its era, under their names in the warehouse."""

    names: Mapping[str, str]
    """Every column of the file, with its name in the file."""
    new: tuple[str, ...]
    """The columns that the data set has in no era."""
    missing: tuple[Column, ...]
    """The columns of the era that the file lacks."""
    other_types: Mapping[str, str]
    """The columns with another type than in the era, each with both types as text."""

    @property
    def missing_required(self) -> tuple[Column, ...]:
        """Return the required columns that the file lacks."""
        return tuple(column for column in self.missing if column.required)


@dataclass(frozen=True)
class DataSet:
    """A data set of the TLC, published as one parquet file a month.

    `file_pattern` takes the month; `pickup` and `dropoff` are the warehouse names of the columns with the start and end
    time of a trip.
    """

    name: str
    label: str
    file_pattern: str
    eras: Mapping[Era, date]
    columns: tuple[Column, ...]
    pickup: str
    dropoff: str

    @property
    def first_month(self) -> date:
        """Return the first month of the data set."""
        return min(self.eras.values())

    def file_name(self, month: date) -> str:
        """Return the name of a month's file."""
        return self.file_pattern.format(month=month)

    def era_of(self, month: date) -> Era:
        """Return the era of a month; it lasts until the next one begins. Raises ValueError before the first month."""
        eras = [era for era, start in self.eras.items() if start <= month]
        if not eras:
            raise ValueError(f"{self.label} has no {month:%Y-%m}: the first month is {self.first_month:%Y-%m}.")
        return max(eras)

    def label_of(self, era: Era) -> str:
        """Return the label of an era: the years of its files."""
        starts = sorted(self.eras.values())
        start = self.eras[era]
        following = next((other for other in starts if other > start), None)
        if following is None:
            return f"since {start.year}"
        last = following - timedelta(days=1)
        return f"{start.year}" if start.year == last.year else f"{start.year} to {last.year}"

    def columns_of(self, era: Era) -> tuple[Column, ...]:
        """Return the columns that the files of an era have."""
        return tuple(column for column in self.columns if column.type_in_files(era) is not None)

    def match(self, fields: Iterable[tuple[str, str]], era: Era) -> ColumnMatch:
        """Match a file's columns, as names and Arrow types, to those of an era: by name or alias, case-insensitively.

        Raises AmbiguousColumnError if two columns of the file match the same column.
        """
        known = {name.lower(): column for column in self.columns for name in (column.name, *column.aliases)}
        names: dict[str, str] = {}
        types: dict[str, str] = {}
        for source_name, type_name in fields:
            column = known.get(source_name.lower())
            name = column.name if column else source_name.lower()
            if name in names:
                raise AmbiguousColumnError(f"the columns {names[name]} and {source_name} are both {name}")
            names[name], types[name] = source_name, type_name
        expected = self.columns_of(era)
        return ColumnMatch(
            names=names,
            new=tuple(name for name in names if name not in known),
            missing=tuple(column for column in expected if column.name not in names),
            other_types={
                column.name: f"{types[column.name]}, not {column.type_in_files(era)}"
                for column in expected
                if column.name in names and types[column.name] != column.type_in_files(era)
            },
        )


# High-volume files also have the column of the other for-hire vehicles, so their own column comes first.
_SIGNATURES: Mapping[str, str] = {
    "hvfhs_license_num": "high-volume for-hire vehicles",
    "dispatching_base_num": "for-hire vehicles",
    "tpep_pickup_datetime": "yellow taxi",
    "lpep_pickup_datetime": "green taxi",
}


def recognize_label(names: Iterable[str]) -> str | None:
    """Return the label of the TLC's data set that one of these columns identifies; None if none does."""
    there = {name.lower() for name in names}
    return next((label for column, label in _SIGNATURES.items() if column in there), None)


_ID = {"A": "int64", "B": "int32"}
_CODE = {"A": "double", "B": "int64"}
_TIME = {"A": "timestamp[us]"}
_TEXT = {"A": "string", "B": "large_string"}
_NUMBER = {"A": "double"}

DATASET = DataSet(
    name="green_tripdata",
    label="green taxi",
    file_pattern="green_tripdata_{month:%Y-%m}.parquet",
    eras={"A": date(2013, 8, 1), "B": date(2023, 2, 1), "C": date(2025, 1, 1)},
    pickup="lpep_pickup_datetime",
    dropoff="lpep_dropoff_datetime",
    columns=(
        Column(
            "VendorID",
            "int32",
            _ID,
            "Code of the provider of the record.",
            codes={
                1: "Creative Mobile Technologies",
                2: "Curb Mobility (formerly VeriFone)",
                5: "occurs undocumented",
                6: "Myle Technologies",
            },
        ),
        Column(
            "lpep_pickup_datetime",
            "timestamp[us]",
            _TIME,
            "When the meter was engaged: New York wall-clock time, no zone.",
        ),
        Column(
            "lpep_dropoff_datetime",
            "timestamp[us]",
            _TIME,
            "When the meter was disengaged: New York wall-clock time, no zone.",
        ),
        Column(
            "store_and_fwd_flag",
            "string",
            _TEXT,
            "Whether the record was held in the vehicle before it was sent, because there was no connection.",
            required=False,
            codes={"N": "no", "Y": "yes"},
        ),
        Column(
            "RatecodeID",
            "int32",
            _CODE,
            "Final rate code.",
            required=False,
            codes={
                1: "standard",
                2: "JFK",
                3: "Newark",
                4: "Nassau or Westchester",
                5: "negotiated",
                6: "group ride",
                99: "unknown",
            },
        ),
        Column("PULocationID", "int32", _ID, "TLC taxi zone in which the meter was engaged."),
        Column("DOLocationID", "int32", _ID, "TLC taxi zone in which the meter was disengaged."),
        Column("passenger_count", "int32", _CODE, "Number of passengers, as entered by the driver.", required=False),
        Column("trip_distance", "double", _NUMBER, "Trip distance in miles, as reported by the meter."),
        Column("fare_amount", "double", _NUMBER, "Time-and-distance fare calculated by the meter, in US dollars."),
        Column("extra", "double", _NUMBER, "Miscellaneous extras and surcharges, in US dollars."),
        Column("mta_tax", "double", _NUMBER, "MTA tax, triggered by the metered rate in use, in US dollars."),
        Column(
            "tip_amount",
            "double",
            _NUMBER,
            "Tip in US dollars: filled in for card payments; cash tips are not included.",
        ),
        Column("tolls_amount", "double", _NUMBER, "Total of all tolls paid in the trip, in US dollars."),
        Column(
            "ehail_fee",
            "double",
            {"A": "null", "B": "double"},
            "Fee for an e-hail in US dollars; no published month has a value.",
            required=False,
        ),
        Column(
            "improvement_surcharge",
            "double",
            _NUMBER,
            "Improvement surcharge assessed at the flag drop, levied since 2015, in US dollars.",
            required=False,
        ),
        Column("total_amount", "double", _NUMBER, "Total charged to passengers in US dollars; without cash tips."),
        Column(
            "payment_type",
            "int32",
            _CODE,
            "How the passenger paid.",
            required=False,
            codes={
                0: "flex fare",
                1: "credit card",
                2: "cash",
                3: "no charge",
                4: "dispute",
                5: "unknown",
                6: "voided trip",
            },
        ),
        Column(
            "trip_type",
            "int32",
            _CODE,
            "Assigned from the metered rate in use, alterable by the driver.",
            required=False,
            codes={1: "street-hail", 2: "dispatch"},
        ),
        Column(
            "congestion_surcharge",
            "double",
            _NUMBER,
            "New York State congestion surcharge, levied since 2019, in US dollars.",
            required=False,
        ),
        Column(
            "cbd_congestion_fee",
            "double",
            {"C": "double"},
            "MTA congestion relief zone charge per trip, levied since 5 January 2025, in US dollars.",
            required=False,
        ),
    ),
)
"""The data set of this project, its columns in the order of the newest files."""
