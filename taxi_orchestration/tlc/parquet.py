"""A month's parquet file as record batches in the data set's schema, without loss, and the drift of the file.

Which files are refused, and why, belongs here. The source of a file and the target of its rows do not.
"""

import json
import mmap
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_orchestration.months import next_month
from taxi_orchestration.tlc.contract import MAX_DECIMAL_DIGITS, arrow_schema, postgres_type_for, target_type_for
from taxi_orchestration.tlc.dataset import (
    DATASET,
    KEY_COLUMNS,
    POSTGRES_TYPES,
    AmbiguousColumnError,
    ColumnMatch,
    DataSet,
    recognize_label,
)
from taxi_orchestration.tlc.errors import BadFileError, UnsupportedFileError, advise_new_copy, is_tlc_url

MAX_ROWS = 50_000_000
MAX_COLUMNS = 100
MAX_TEXT_BYTES = 1_000
"""In a dictionary page, one long text can stand for millions of rows: the limit keeps a batch small."""

MAX_ROW_BYTES = 4_000
"""The average of a row group; real files have a hundred. 63 kB can unpack to 500 MB, for which the decoder takes 2.7 GB
before the length of a text can be checked.
"""

GROUP_OVERHEAD_BYTES = 2**20
"""The allowance of a row group beside its rows: headers, and dictionaries that few rows use."""

ROWS_BETWEEN_DROPS = 250_000
"""The rows after which the pages of the file that have been read are dropped from memory."""

MAX_TEXT_BATCH_BYTES = 2**28
"""The limit of a batch of texts that are not read as dictionaries: each text may be as long as all of its pages."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_OF_RAW_TRIPS = {column.name for column in KEY_COLUMNS}
_OF_POSTGRES = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
# Matched in the message: pyarrow raises most of what it has not implemented as a plain OSError.
_NOT_IMPLEMENTED = re.compile(
    r"not (yet |currently )?(implemented|supported)|unsupported|only supports|unknown (encoding|compression)|crypt",
    re.I,
)

Convert = Callable[[pa.Array], pa.Array]
Error = TypeVar("Error", bound=BadFileError)


@dataclass(frozen=True)
class Drift:
    """The differences between a file and its month's era, as text. All of them were loaded without loss."""

    new_columns: Mapping[str, str]
    missing_columns: Mapping[str, str]
    other_types: Mapping[str, str]
    left_out: Mapping[str, str]

    def __bool__(self) -> bool:
        return any(vars(self).values())


@dataclass(frozen=True)
class _Origin:
    """The data set, month, URL and writer of a file, for messages; its methods make the errors of refused files."""

    dataset: DataSet
    month: date
    url: str
    writer: str = "an unknown program"

    def damaged(self, found: str) -> BadFileError:
        """Return the error of a damaged, empty or different file."""
        return self._refused(BadFileError, found, advise_new_copy(self.url))

    def misnamed(self, found: str, fix: str) -> BadFileError:
        """Return the error of an invalid column name. `fix` is what the writer of a copy must do."""
        return self._refused(BadFileError, found, advise_new_copy(self.url) if self._is_tlc else self._rewrite(fix))

    def differs(self, found: str, fix: str) -> BadFileError:
        """Return the error of unaccepted columns or values. `fix` is what the writer of a copy must do."""
        extend = "If the TLC changed its format, extend taxi_orchestration/tlc/dataset.py."
        return self._refused(BadFileError, found, extend if self._is_tlc else self._rewrite(fix))

    def too_large(self, found: str, limit: str) -> BadFileError:
        """Return the error of a file beyond the limit of this module that is named `limit`."""
        return self._refused(BadFileError, found, f"If the file is correct, raise {limit} in {__name__}.")

    def unsupported(self, error: Exception) -> UnsupportedFileError:
        """Return the error of a file that needs a feature that the parquet reader has not implemented."""
        found = f"pyarrow {pa.__version__} cannot read what {self.writer} wrote ({_line(str(error), 200)})"
        anew = (
            "try again once the TLC has re-issued the file"
            if self._is_tlc
            else "write it with another encoding or compression, not encrypted"
        )
        return self._refused(UnsupportedFileError, found, f"The file may be whole: upgrade pyarrow, or {anew}.")

    @property
    def _is_tlc(self) -> bool:
        return is_tlc_url(self.url)

    def _rewrite(self, fix: str) -> str:
        return f"It is a copy that {self.writer} wrote: {fix}, then load the month again, or unset TLC_BASE_URL."

    def _refused(self, kind: type[Error], found: str, advice: str) -> Error:
        reading = f"Reading {self.dataset.label} {self.month:%Y-%m} ({self.url})"
        return kind(f"{reading}: {found}. Nothing was loaded. {advice}")


@dataclass(frozen=True)
class _Step:
    """How one column of a batch is made: `convert` applied to the file's column, or nulls if the file has none."""

    target: pa.Field
    source: str | None = None
    convert: Convert | None = None


class MonthFile:
    """A month's file with its footer read and its columns matched to those of the data set; a context manager.

    `rows` is the footer's count, `columns` the file's own columns and types. `schema` is the schema of the batches: the
    columns of the data set in order, then the new columns, whose PostgreSQL types are in `new_columns`.
    """

    def __init__(self, reader: pq.ParquetFile, mapped: mmap.mmap, schema: pa.Schema, origin: _Origin) -> None:
        self.month = origin.month
        self.era = origin.dataset.era_of(origin.month)
        self.rows: int = reader.metadata.num_rows
        self._origin = origin
        self._reader = reader
        self._mapped = mapped
        self._inside: int | None = None
        self._int96 = _int96_columns(reader.metadata)
        self.columns: dict[str, str] = {field.name: self._type_in_file(field) for field in schema}
        left_out = _bookkeeping(schema, reader.metadata, origin.dataset)
        match = self._match([field for field in schema if field.name not in left_out])
        fields = {name: schema.field(source_name) for name, source_name in match.names.items()}
        new = self._new_fields(match, fields)
        self.new_columns: dict[str, str] = {
            name: postgres_type_for(field.type) for name, field in new.items() if not pa.types.is_null(field.type)
        }
        self.drift = self._find_drift(match, new, left_out)
        self._fields = fields
        self._plan_columns({name: target_type_for(new[name].type) for name in self.new_columns})

    @classmethod
    def open(cls, path: Path, month: date, url: str, dataset: DataSet = DATASET, *, max_rows: int = MAX_ROWS) -> Self:
        """Read the footer of a file and match its columns. Raises BadFileError if the file cannot be loaded losslessly.

        `url` is the source of the file, for messages.
        """
        origin = _Origin(dataset, month, url)
        try:
            mapped = _mapped(path)
            footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(mapped)))
            origin = _Origin(dataset, month, url, _writer(footer))
            schema = _schema(footer)
            # As dictionaries, texts are checked once for each distinct value instead of each row.
            reader = _reader(mapped, footer, read_dictionary=[field.name for field in schema if _is_text(field.type)])
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if _is_of_this_machine(error):
                raise
            if _is_not_implemented(error):
                raise origin.unsupported(error) from error
            raise origin.damaged(f"it cannot be read as parquet, or its footer is damaged ({error})") from error
        try:
            _check_limits(footer, origin, max_rows)
            return cls(reader, mapped, schema, origin)
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def adopt_types(self, types: Mapping[str, pa.DataType]) -> None:
        """Cast the new columns to the types of earlier files. Raises BadFileError if a cast is not lossless."""
        known = {name: types.get(name) or self.schema.field(name).type for name in self.new_columns}
        self._plan_columns(known)
        self.new_columns = {name: POSTGRES_TYPES[str(kind)] for name, kind in known.items()}
        added = {name: self._describe_new(self._fields[name], kind) for name, kind in self.new_columns.items()}
        self.drift = replace(self.drift, new_columns={**self.drift.new_columns, **added})

    def _plan_columns(self, new: Mapping[str, pa.DataType]) -> None:
        """Set the columns of the batches: those of the data set, and the new columns in these types."""
        targets = [*arrow_schema(self._origin.dataset), *(pa.field(name, kind) for name, kind in new.items())]
        self.schema: pa.Schema = pa.schema(targets)
        self._steps = [self._step(target, self._fields.get(target.name)) for target in targets]

    @property
    def pickups_outside(self) -> int:
        """Return the number of pickups outside the file's month, once all batches have been read."""
        if self._inside is None:
            raise RuntimeError("pickups_outside is known once all batches have been read.")
        return self.rows - self._inside

    def batches(self, batch_rows: int = 32_768) -> Iterator[pa.RecordBatch]:
        """Yield the file's rows in order, as batches of exactly `schema`.

        Raises BadFileError if a page is damaged, a value would be lost, or most pickups lie outside the month.
        """
        self._inside = None
        self._check_int96(batch_rows)
        # A dictionary can repeat a text of MAX_TEXT_BYTES in every row of every text column.
        texts = sum(pa.types.is_string(field.type) for field in self.schema)
        batch_rows = max(1, min(batch_rows, MAX_TEXT_BATCH_BYTES // (MAX_TEXT_BYTES * max(1, texts))))
        start, end = (
            pa.scalar(datetime(day.year, day.month, 1), pa.timestamp("us"))
            for day in (self.month, next_month(self.month))
        )
        read = inside = 0
        for batch in self._decoded(batch_rows):
            arrays = [self._converted(step, batch, read) for step in self._steps]
            pickups = arrays[self.schema.get_field_index(self._origin.dataset.pickup)]
            inside += pc.and_(pc.greater_equal(pickups, start), pc.less(pickups, end)).true_count
            read += batch.num_rows
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if read != self.rows:
            raise self._origin.damaged(f"the footer has {self.rows:,} rows, but the pages have {read:,}")
        # Every real file has some pickups of adjacent months, but never more than a few in a thousand.
        if inside * 2 < read:
            found = f"only {inside:,} of its {read:,} pickups lie in {self.month:%Y-%m}: it is another month's file"
            raise self._origin.damaged(found)
        self._inside = inside

    def _decoded(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches in the types of the file."""
        batches = self._reader.iter_batches(batch_size=batch_rows, columns=self._wanted, use_threads=False)
        read = dropped = 0
        as_dictionaries = True
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                if as_dictionaries and _is_not_implemented(error):
                    as_dictionaries = False
                    batches = self._decoded_plainly(batch_rows, read)
                    continue
                if _is_of_this_machine(error):
                    raise
                raise self._undecoded(error, read) from error
            if batch is None:
                return
            read += batch.num_rows
            if read - dropped >= ROWS_BETWEEN_DROPS:
                _drop_page_cache(self._mapped)
                dropped = read
            yield batch

    def _decoded_plainly(self, batch_rows: int, skip: int) -> Iterator[pa.RecordBatch]:
        """Yield the batches after `skip` rows, with plain texts: pyarrow reads some encodings not as dictionaries.

        Such a page can repeat a long prefix in every row, so the footer's sizes limit the rows of a batch.
        """
        footer = self._reader.metadata
        # With pre_buffer, pyarrow checks the metadata of all columns and raises for damage; the access to damaged
        # metadata below would end the process.
        with _reader(self._mapped, footer, pre_buffer=True) as reader:
            next(reader.iter_batches(batch_size=1, columns=self._wanted, use_threads=False), None)
            texts = {step.source for step in self._steps if step.source and _is_text(step.target.type)}
            sizes = [
                footer.row_group(group).column(column).total_uncompressed_size
                for group in range(footer.num_row_groups)
                for column in range(footer.num_columns)
                if footer.schema.column(column).path in texts
            ]
            rows = max(1, min(batch_rows, MAX_TEXT_BATCH_BYTES // max([1, *sizes])))
            for batch in reader.iter_batches(batch_size=rows, columns=self._wanted, use_threads=False):
                if skip < batch.num_rows:
                    yield batch.slice(skip)
                skip = max(0, skip - batch.num_rows)

    def _check_int96(self, batch_rows: int) -> None:
        """Refuse INT96 values with nanoseconds or beyond the years of microseconds, which pyarrow truncates.

        An INT96 is a day and its nanoseconds. In milliseconds no value exceeds 64 bits; in nanoseconds the last three
        digits are right even if the value wraps.
        """
        columns = [name for name in self._wanted if name in self._int96]
        if not columns:
            return
        footer, read = self._reader.metadata, 0
        try:
            by_unit = [
                _reader(self._mapped, footer, coerce_int96_timestamp_unit=unit).iter_batches(
                    batch_size=batch_rows, columns=columns, use_threads=False
                )
                for unit in ("ms", "us", "ns")
            ]
            for batches in zip(*by_unit, strict=True):
                for name in columns:
                    self._check_int96_column(name, *(batch.column(name) for batch in batches), read=read)
                read += batches[0].num_rows
        except (pa.ArrowException, OSError) as error:
            if _is_of_this_machine(error):
                raise
            raise self._undecoded(error, read) from error

    def _check_int96_column(self, name: str, ms: pa.Array, us: pa.Array, ns: pa.Array, *, read: int) -> None:
        whole, digits = ms.cast(pa.int64()), pc.subtract(ns.cast(pa.int64()), pc.multiply(us.cast(pa.int64()), 1000))
        inside = pc.and_(pc.greater_equal(whole, _FIRST_INSTANT // 1000), pc.less_equal(whole, _LAST_INSTANT // 1000))
        lossless = pc.and_(inside, pc.equal(digits, 0))
        if pc.all(lossless).as_py() is not False:
            return
        index = pc.index(lossless, False).as_py()
        shown, reason = _shown(ms[index]), _NO_YEAR
        if inside[index].as_py():
            shown, reason = f"{_shown(us[index])}{digits[index].as_py():03}", "an INT96 with nanoseconds"
        raise self._lost(name, read + index, shown, "timestamp[us]", reason)

    def _undecoded(self, error: Exception, read: int) -> BadFileError:
        """Return the error of pages that cannot be decoded."""
        if _is_not_implemented(error):
            return self._origin.unsupported(error)
        return self._origin.damaged(f"a page is damaged at or after row {read + 1:,} ({error})")

    def _lost(self, column: str, index: int, value: str, target: object, reason: str) -> BadFileError:
        found = f"column {column}, row {index + 1:,}: {value} would be lost as {target} ({reason})"
        return self._origin.differs(found, "write the TLC's value in that row")

    def _converted(self, step: _Step, batch: pa.RecordBatch, read: int) -> pa.Array:
        """Return a column of a batch in its target type. `read` is the number of rows before the batch."""
        if step.source is None:
            return pa.nulls(batch.num_rows, step.target.type)
        array = batch.column(step.source)
        if step.convert is None:
            return array
        try:
            return step.convert(array)
        except pa.ArrowException as error:
            index = _first_failure(step.convert, array)
            value, reason = _shown(array[index]), str(error)[:120]
            raise self._lost(step.source, read + index, value, step.target.type, reason) from error

    def _match(self, fields: Sequence[pa.Field]) -> ColumnMatch:
        """Match the file's columns to those of its era; refuse a name that no column of the warehouse can have."""
        for field in fields:
            name = field.name.lower() if field.name.isascii() else ""
            if not _NAME.fullmatch(name) or name in _OF_RAW_TRIPS | _OF_POSTGRES:
                found = f"the column name {field.name[:80]!r} cannot be a column of raw_trips"
                raise self._origin.misnamed(found, _renaming(field.name, self._origin.dataset))
        try:
            return self._origin.dataset.match([(field.name, self._type_in_file(field)) for field in fields], self.era)
        except AmbiguousColumnError as error:
            raise self._origin.misnamed(str(error), "write it with one of the two columns") from error

    def _new_fields(self, match: ColumnMatch, fields: Mapping[str, pa.Field]) -> dict[str, pa.Field]:
        """Return the columns that the data set lacks; refuse missing required columns and unsupported types."""
        # In alphabetical order: the digest of the rows does not depend on the order in the file.
        new = {name: fields[name] for name in sorted(match.new)}
        missing = [column.source_name for column in match.missing_required]
        label = recognize_label(fields)
        if missing and label and label != self._origin.dataset.label:
            raise self._origin.damaged(f"it is a file of {label}, as its columns show")
        if missing:
            instead = f" and unknown columns are present ({', '.join(new)}), perhaps renamed" if new else ""
            found = f"required columns are missing ({', '.join(missing)}){instead}"
            raise self._origin.differs(found, "write it with all columns of the TLC, under the TLC's names")
        for field in new.values():
            if target_type_for(field.type) is None and not pa.types.is_null(field.type):
                found = f"the new column {field.name} is of type {field.type}, which has no settled PostgreSQL type"
                kinds = "a number, text, a boolean, a date or a timestamp without a zone"
                raise self._origin.differs(found, f"leave it out, or write it as {kinds}")
        return new

    def _step(self, target: pa.Field, field: pa.Field | None) -> _Step:
        """Return how a target column is made from the file's column; refuse types without a lossless cast."""
        if field is None or pa.types.is_null(field.type):
            return _Step(target)
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            found = f"column {field.name} has the time zone {field.type.tz}, but trips are in New York wall-clock time"
            found = f"{found}, and the conversion is ambiguous in the repeated hour of November"
            zoneless = "in Spark timestamp_ntz, in pandas dt.tz_localize(None)"
            raise self._origin.differs(found, f"write it as New York wall-clock time without a zone ({zoneless})")
        castable, convert = _conversion(field.type, target.type)
        if not castable:
            found = f"column {field.name} is of type {field.type}, which cannot be loaded as {target.type}"
            raise self._origin.differs(found, f"write it as {target.type}")
        return _Step(target, field.name, convert)

    def _find_drift(self, match: ColumnMatch, new: Mapping[str, pa.Field], left_out: Mapping[str, str]) -> Drift:
        """Return the new, missing and left-out columns, and those of another type than in the month's era."""
        return Drift(
            new_columns={
                name: "only nulls and no type: left out"
                if pa.types.is_null(field.type)
                else self._describe_new(field, postgres_type_for(field.type))
                for name, field in new.items()
            },
            missing_columns={column.name: "null in all rows" for column in match.missing},
            other_types=match.other_types,
            left_out=left_out,
        )

    def _describe_new(self, field: pa.Field, postgres_type: str) -> str:
        return f"{self._type_in_file(field)}, added as {postgres_type}"

    def _type_in_file(self, field: pa.Field) -> str:
        return "int96" if field.name in self._int96 else str(field.type)

    @property
    def _wanted(self) -> list[str]:
        """Return the columns of the file that are read."""
        return [step.source for step in self._steps if step.source is not None]


def _reader(mapped: mmap.mmap, footer: pq.FileMetaData, **options: Any) -> pq.ParquetFile:
    """Open a reader that verifies checksums and reads INT96 as microseconds: nanoseconds wrap after 2262."""
    fixed = {"page_checksum_verification": True, "pre_buffer": False, "coerce_int96_timestamp_unit": "us"}
    return pq.ParquetFile(pa.BufferReader(pa.py_buffer(mapped)), metadata=footer, **(fixed | options))


def _schema(footer: pq.FileMetaData) -> pa.Schema:
    """Return the schema of a file as `_reader` reads the file, but without dictionaries of texts."""
    schema, int96 = footer.schema.to_arrow_schema(), _int96_columns(footer)
    for index, field in enumerate(schema):
        if field.name in int96 and pa.types.is_timestamp(field.type):
            schema = schema.set(index, field.with_type(pa.timestamp("us", field.type.tz)))
    return schema


def _int96_columns(footer: pq.FileMetaData) -> set[str]:
    """Return the INT96 columns: the old timestamp type that Spark writes by default."""
    columns = map(footer.schema.column, range(footer.num_columns))
    return {column.path for column in columns if column.physical_type == "INT96"}


def _writer(footer: pq.FileMetaData) -> str:
    """Return the program that wrote a file by its footer, for messages."""
    spark = (footer.metadata or {}).get(b"org.apache.spark.version", b"").decode(errors="replace")
    pandas = _pandas_metadata(footer).get("pandas_version")
    program = f"Spark {spark}, " if spark else f"pandas {pandas}, " if pandas else ""
    return _line(f"{program}{footer.created_by or 'an unknown program'}", 80)


def _pandas_metadata(footer: pq.FileMetaData) -> dict[str, Any]:
    """Return the metadata that pandas wrote into the footer; empty if another program wrote the file."""
    try:
        found = json.loads((footer.metadata or {}).get(b"pandas", b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _bookkeeping(schema: pa.Schema, footer: pq.FileMetaData, dataset: DataSet) -> dict[str, str]:
    """Return the columns that a program added for itself, each with the reason; none of them is data of the TLC.

    Programs begin such names with an underscore (__index_level_0__, __null_dask_index__, _hoodie_commit_time, _dlt_id);
    the TLC never did. pandas lists the columns of its index in the footer.
    """
    index = _pandas_metadata(footer).get("index_columns")
    labels = [name for name in index if isinstance(name, str)] if isinstance(index, list) else []
    known = {name.lower() for column in dataset.columns for name in (column.name, *column.aliases)}
    found: dict[str, str] = {}
    for name in schema.names:
        if name in labels and name.lower() not in known:
            found[name] = "the index of pandas"
        elif name.startswith("_"):
            found[name] = "a column that its writer added"
    return {name: words for name, words in found.items() if name.isprintable()}


def _renaming(name: str, dataset: DataSet) -> str:
    """Return what the writer must do about a name that no column of raw_trips can have."""
    known = {column.name: column.source_name for column in dataset.columns}.get(name.strip().lower())
    if known:
        return f"name the column {known}, without spaces"
    if name.startswith("Unnamed: "):
        return "write it without the row numbers (in pandas, read the CSV with index_col=0 and write with index=False)"
    if name.lower() in _OF_RAW_TRIPS:
        return "leave out source_month and source_row, which raw_trips adds to every row"
    if name.lower() in _OF_POSTGRES:
        return "give the column another name, since PostgreSQL reserves this name"
    return "leave the column out, or name it with 1 to 63 letters (a to z), digits and underscores, a letter first"


def _line(text: str, length: int) -> str:
    """Make a text of a file or of pyarrow short and printable, for a message."""
    return re.sub(r"[^ -~]+", " ", text)[:length].strip()


def _mapped(path: Path) -> mmap.mmap:
    """Map the file into memory. A row group may be the whole file: without a buffered stream Arrow reads a column
    whole, and with one it keeps the small pages that it has read (34 MiB of 20,000,000 rows).
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise pa.ArrowInvalid("the file is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _drop_page_cache(mapped: mmap.mmap) -> None:
    """Drop the pages of the file that have been read, which would count as memory of this process."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _is_of_this_machine(error: Exception) -> bool:
    """Return whether memory, disk or permissions, not the file, caused an error of the parquet reader."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def _is_not_implemented(error: Exception) -> bool:
    """Return whether the parquet reader lacks a feature, so that the file may be whole."""
    return isinstance(error, pa.ArrowNotImplementedError) or bool(_NOT_IMPLEMENTED.search(str(error)))


def _check_limits(footer: pq.FileMetaData, origin: _Origin, max_rows: int) -> None:
    """Refuse a file whose footer shows it to be empty, inconsistent or a decompression bomb."""
    in_groups = sum(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    if footer.num_rows != in_groups:
        found = f"the footer has {footer.num_rows:,} rows in total, but {in_groups:,} in its row groups"
        raise origin.damaged(found)
    if footer.num_rows <= 0:
        raise origin.damaged("it has no rows")
    if footer.num_rows > max_rows:
        raise origin.too_large(f"it has {footer.num_rows:,} rows; the limit is {max_rows:,}", "MAX_ROWS")
    if footer.num_columns > MAX_COLUMNS:
        raise origin.too_large(f"it has {footer.num_columns:,} columns; the limit is {MAX_COLUMNS}", "MAX_COLUMNS")
    # Sizes of whole row groups: pyarrow ends the process on the metadata of a damaged column.
    for group in map(footer.row_group, range(footer.num_row_groups)):
        if group.total_byte_size > MAX_ROW_BYTES * group.num_rows + GROUP_OVERHEAD_BYTES:
            found = f"it unpacks to {group.total_byte_size:,} bytes in {group.num_rows:,} rows"
            raise origin.too_large(f"{found}; the limit is {MAX_ROW_BYTES:,} a row", "MAX_ROW_BYTES")
    # A batch can hold the dictionaries of many row groups.
    total = sum(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups))
    if total > MAX_ROW_BYTES * footer.num_rows + GROUP_OVERHEAD_BYTES:
        found = f"its {footer.num_row_groups:,} row groups unpack to {total:,} bytes in {footer.num_rows:,} rows"
        raise origin.too_large(f"{found}; the limit is {MAX_ROW_BYTES:,} a row", "MAX_ROW_BYTES")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())


def _conversion(source: pa.DataType, target: pa.DataType) -> tuple[bool, Convert | None]:
    """Return whether a type can be cast to another, and the function that checks and casts; None if none is needed."""
    types = pa.types
    if types.is_dictionary(source) and not _is_text(source):
        castable, convert = _conversion(source.value_type, target)
        return castable, lambda array: (convert or _same)(array.dictionary_decode())
    if types.is_string(target):
        return _is_text(source), _to_text
    if types.is_timestamp(target):
        return types.is_timestamp(source), _to_timestamp
    if types.is_date(target):
        return types.is_date(source), _to_date
    if source == target:
        return True, None

    def cast(array: pa.Array) -> pa.Array:
        return array.cast(target)

    if types.is_integer(target):
        return types.is_integer(source) or types.is_floating(source) or types.is_decimal(source), cast
    if types.is_floating(target) and types.is_decimal(source):
        return source.precision <= MAX_DECIMAL_DIGITS, _decimal_to_float
    if types.is_floating(target):
        return types.is_integer(source) or types.is_floating(source), cast
    return False, None


def _same(array: pa.Array) -> pa.Array:
    return array


def _to_timestamp(array: pa.Array) -> pa.Array:
    """Cast to timestamps in microseconds, in the years that both Python and PostgreSQL support."""
    array = array.cast(pa.timestamp("us"))
    bounds = pc.min_max(array)
    if bounds["min"].is_valid and (bounds["min"].value < _FIRST_INSTANT or bounds["max"].value > _LAST_INSTANT):
        raise pa.ArrowInvalid(_NO_YEAR)
    return array


def _to_date(array: pa.Array) -> pa.Array:
    """Cast to dates in the years that both Python and PostgreSQL support."""
    array = array.cast(pa.date32())
    bounds = pc.min_max(array.cast(pa.int32()))
    if bounds["min"].is_valid and (bounds["min"].as_py() < _FIRST_DAY or bounds["max"].as_py() > _LAST_DAY):
        raise pa.ArrowInvalid(_NO_YEAR)
    return array


_NO_YEAR = "not in the years 1 to 9999"
_EPOCH = datetime(1970, 1, 1)
_FIRST_INSTANT = (datetime.min - _EPOCH) // timedelta(microseconds=1)
_LAST_INSTANT = (datetime.max - _EPOCH) // timedelta(microseconds=1)
_FIRST_DAY, _LAST_DAY = (date.min - _EPOCH.date()).days, (date.max - _EPOCH.date()).days


def _decimal_to_float(array: pa.Array) -> pa.Array:
    """Return the double nearest to each decimal: Arrow's direct cast may differ in the last bit."""
    return array.cast(pa.string()).cast(pa.float64())


def _to_text(array: pa.Array) -> pa.Array:
    """Return text that PostgreSQL can store, checked once for each distinct value."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    try:
        values = _checked_text(array.dictionary)
    except pa.ArrowInvalid:
        # Other batches share the dictionary: only values that rows of this batch use count.
        used = array.indices.unique().drop_null()
        array = pa.DictionaryArray.from_arrays(pc.index_in(array.indices, used), array.dictionary.take(used))
        values = _checked_text(array.dictionary)
    return values.take(array.indices)


def _checked_text(values: pa.Array) -> pa.Array:
    raw = values.cast(pa.binary())
    if (pc.max(pc.binary_length(raw)).as_py() or 0) > MAX_TEXT_BYTES:
        raise pa.ArrowInvalid(f"text of more than {MAX_TEXT_BYTES:,} bytes")
    if pc.any(pc.match_substring(raw, "\0")).as_py():
        raise pa.ArrowInvalid("text with a NUL character, which Postgres cannot hold")
    return raw.cast(pa.string())


def _first_failure(convert: Convert, array: pa.Array) -> int:
    """Return the position of the first value that cannot be converted, by bisection."""
    good, bad = 0, len(array)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            convert(array[good:middle])
            good = middle
        except pa.ArrowException:
            bad = middle
    return good


def _shown(value: Any) -> str:
    """Make a value of a file short and printable, for a message."""
    if pa.types.is_dictionary(value.type):
        value = value.value
    if _is_text(value.type):
        return repr(value.as_buffer().to_pybytes()[:60])
    return str(value.cast(pa.string()).as_py())
