"""A month's parquet file as record batches in the data set's schema, without loss, and a report of its drift.

What is refused, and why, is decided here. Where the file came from, and where its rows go, is not known here.
"""

import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taxi_orchestration.tlc.contract import MAX_DECIMAL_DIGITS, arrow_schema, postgres_type_for, target_type_for
from taxi_orchestration.tlc.dataset import DATASET, AmbiguousColumnError, ColumnMatch, DataSet, Era, recognize_label
from taxi_orchestration.tlc.errors import BadFileError

MAX_ROWS = 50_000_000
MAX_COLUMNS = 100
MAX_TEXT_BYTES = 1_000
"""With a page's dictionary, one long text can stand for millions of rows: a limit keeps a batch small."""

MAX_ROW_BYTES = 4_000
"""On an average; real files have a hundred. 63 kB can unpack to 500 MB, for which the decoder takes 2.7 GB before
anybody sees how long a text is.
"""

GROUP_OVERHEAD_BYTES = 2**20
"""What a row group may take beside its rows: headers, and dictionaries that few rows use."""

FORGET_ROWS = 250_000
"""After so many rows, the pages of the file that have been read are let go."""

_ANEW = "Nothing was loaded. Load the month again once the TLC has published it anew."
_CONTRACT = "Nothing was loaded. If the file is right, extend taxi_orchestration/tlc/dataset.py."
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}", re.ASCII)
_RESERVED = {"source_month", "source_row", "tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}

Convert = Callable[[pa.Array], pa.Array]


@dataclass(frozen=True)
class Drift:
    """How a file differs from what its month's era promises, in words. All of it was taken without loss."""

    new_columns: Mapping[str, str]
    missing_columns: Mapping[str, str]
    other_types: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.new_columns or self.missing_columns or self.other_types)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """The drift by kind and column, ready for JSON."""
        return {
            "new_columns": dict(self.new_columns),
            "missing_columns": dict(self.missing_columns),
            "other_types": dict(self.other_types),
        }


@dataclass(frozen=True)
class _Step:
    """How one column of a batch comes about: `convert` applied to the file's column, or nulls where there is none."""

    target: pa.Field
    source: str | None = None
    convert: Convert | None = None


class MonthFile:
    """A month's file, its footer read and its columns matched to the data set's. Close it, or use it in a `with`.

    `rows` is the footer's count, `columns` the file's own columns and types, `schema` that of the batches: the
    data set's columns in order, then the new ones, whose Postgres types are in `new_columns`.
    """

    def __init__(
        self, reader: pq.ParquetFile, mapped: mmap.mmap, schema: pa.Schema, month: date, url: str, dataset: DataSet
    ) -> None:
        self.month = month
        self.url = url
        self.era: Era = dataset.era_of(month)
        self.rows: int = reader.metadata.num_rows
        self.columns: dict[str, str] = {field.name: str(field.type) for field in schema}
        self._reader = reader
        self._mapped = mapped
        self._inside: int | None = None
        self._dataset = dataset
        match = self._match(schema)
        fields = {name: schema.field(source_name) for name, source_name in match.names.items()}
        new = self._new_fields(match, fields)
        self.new_columns: dict[str, str] = {
            name: postgres_type_for(field.type) for name, field in new.items() if not pa.types.is_null(field.type)
        }
        self.drift = _drift(match, new)
        self._fields = fields
        self._aim({name: target_type_for(new[name].type) for name in self.new_columns})

    @classmethod
    def open(cls, path: Path, month: date, url: str, dataset: DataSet = DATASET, *, max_rows: int = MAX_ROWS) -> Self:
        """Read the footer of a file and match its columns; BadFileError where it cannot be loaded without loss.

        `url` is where the file came from, for messages.
        """
        try:
            mapped = _mapped(path)
            footer = pq.read_metadata(pa.BufferReader(pa.py_buffer(mapped)))
            schema = footer.schema.to_arrow_schema()
            # As dictionaries, texts are checked by distinct value and not by row.
            texts = [field.name for field in schema if _is_text(field.type)]
            reader = pq.ParquetFile(
                pa.BufferReader(pa.py_buffer(mapped)),
                metadata=footer,
                pre_buffer=False,
                page_checksum_verification=True,
                read_dictionary=texts,
            )
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if _is_of_this_machine(error):
                raise
            found = f"it cannot be read as parquet, or its footer is damaged ({error})"
            raise _bad(dataset, month, url, f"{found}. {_ANEW}") from error
        try:
            _check_limits(footer, dataset, month, url, max_rows)
            return cls(reader, mapped, schema, month, url, dataset)
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def follow(self, types: Mapping[str, pa.DataType]) -> None:
        """Carry the new columns in the types that earlier files gave them; BadFileError where that loses anything."""
        known = {name: types.get(name) or self.schema.field(name).type for name in self.new_columns}
        self._aim(known)
        self.new_columns = {name: postgres_type_for(kind) for name, kind in known.items()}

    def _aim(self, new: Mapping[str, pa.DataType]) -> None:
        """Settle the columns of the batches: the data set's, and the new ones in these types."""
        targets = [*arrow_schema(self._dataset), *(pa.field(name, kind) for name, kind in new.items())]
        self.schema: pa.Schema = pa.schema(targets)
        self._steps = [self._step(target, self._fields.get(target.name)) for target in targets]

    @property
    def pickups_outside(self) -> int:
        """How many pickups do not lie in the file's month; known once all batches have been read."""
        if self._inside is None:
            raise RuntimeError("pickups_outside is known once all batches have been read.")
        return self.rows - self._inside

    def batches(self, batch_rows: int = 32_768) -> Iterator[pa.RecordBatch]:
        """The file's rows in order, as batches of exactly `schema`.

        BadFileError where a page is damaged, a value would be lost, or, at the end, most pickups lie in other months.
        """
        self._inside = None
        following = (self.month + timedelta(days=31)).replace(day=1)
        start, end = (
            pa.scalar(datetime(day.year, day.month, 1), pa.timestamp("us")) for day in (self.month, following)
        )
        read = inside = 0
        for batch in self._decoded(batch_rows):
            arrays = [self._converted(step, batch, read) for step in self._steps]
            pickups = arrays[self.schema.get_field_index(self._dataset.pickup)]
            inside += pc.and_(pc.greater_equal(pickups, start), pc.less(pickups, end)).true_count
            read += batch.num_rows
            yield pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        if read != self.rows:
            raise self._bad(f"the footer promises {self.rows:,} rows, but there are {read:,}. {_ANEW}")
        # Every file holds some pickups of the months beside its own, but never more than a few in a thousand.
        if inside * 2 < read:
            found = f"only {inside:,} of its {read:,} pickups lie in {self.month:%Y-%m}: it is another month's file"
            raise self._bad(f"{found}. {_ANEW}")
        self._inside = inside

    def _decoded(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The batches as the file has them."""
        wanted = [step.source for step in self._steps if step.source is not None]
        batches = self._reader.iter_batches(batch_size=batch_rows, columns=wanted, use_threads=False)
        read = forgotten = 0
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                if _is_of_this_machine(error):
                    raise
                raise self._bad(f"a page is damaged at or after row {read + 1:,} ({error}). {_ANEW}") from error
            if batch is None:
                return
            read += batch.num_rows
            if read - forgotten >= FORGET_ROWS:
                _forget(self._mapped)
                forgotten = read
            yield batch

    def _converted(self, step: _Step, batch: pa.RecordBatch, read: int) -> pa.Array:
        """A column of a batch in its target type. `read` is the number of rows before the batch."""
        if step.source is None:
            return pa.nulls(batch.num_rows, step.target.type)
        array = batch.column(step.source)
        if step.convert is None:
            return array
        try:
            return step.convert(array)
        except pa.ArrowException as error:
            index = _first_failure(step.convert, array)
            place = f"column {step.source}, row {read + index + 1:,}: {_shown(array[index])}"
            found = f"{place} would be lost as {step.target.type} ({str(error)[:120]})"
            raise self._bad(f"{found}. {_CONTRACT}") from error

    def _match(self, schema: pa.Schema) -> ColumnMatch:
        """The file's columns beside those of its era; refused where a name cannot be one in the warehouse."""
        for field in schema:
            name = field.name.lower() if field.name.isascii() else ""
            if not _NAME.fullmatch(name) or name in _RESERVED:
                raise self._bad(f"the column name {field.name[:80]!r} cannot be a column of raw_trips. {_ANEW}")
        try:
            return self._dataset.match([(field.name, str(field.type)) for field in schema], self.era)
        except AmbiguousColumnError as error:
            raise self._bad(f"{error}. {_ANEW}") from error

    def _new_fields(self, match: ColumnMatch, fields: Mapping[str, pa.Field]) -> dict[str, pa.Field]:
        """The columns that the data set does not know; refused without the required ones or with what has no type."""
        new = {name: fields[name] for name in match.new}
        missing = [column.source_name for column in match.missing_required]
        label = recognize_label(fields)
        if missing and label and label != self._dataset.label:
            raise self._bad(f"it is a file of {label}, as its columns show. Nothing was loaded. Check TLC_BASE_URL.")
        if missing:
            instead = f" and unknown ones are there ({', '.join(new)}): renamed?" if new else "."
            raise self._bad(f"required columns are missing ({', '.join(missing)}){instead} {_CONTRACT}")
        for field in new.values():
            if target_type_for(field.type) is None and not pa.types.is_null(field.type):
                found = f"the new column {field.name} is of type {field.type}, which has no settled Postgres type"
                raise self._bad(f"{found}. {_CONTRACT}")
        return new

    def _step(self, target: pa.Field, field: pa.Field | None) -> _Step:
        """How a target column is made from the file's column; refused where no type of cast is without loss."""
        if field is None or pa.types.is_null(field.type):
            return _Step(target)
        if pa.types.is_timestamp(field.type) and field.type.tz is not None:
            found = f"column {field.name} has the time zone {field.type.tz}, but trips are in New York wall-clock time"
            raise self._bad(f"{found}, which cannot be told from it in the repeated hour of November. {_CONTRACT}")
        castable, convert = _conversion(field.type, target.type)
        if not castable:
            found = f"column {field.name} is of type {field.type}, which is not taken for {target.type}"
            raise self._bad(f"{found}. {_CONTRACT}")
        return _Step(target, field.name, convert)

    def _bad(self, found: str) -> BadFileError:
        return _bad(self._dataset, self.month, self.url, found)


def _bad(dataset: DataSet, month: date, url: str, found: str) -> BadFileError:
    return BadFileError(f"Reading {dataset.label} {month:%Y-%m} ({url}): {found}")


def _mapped(path: Path) -> mmap.mmap:
    """The file as memory. A row group may be the whole file: Arrow's buffered streams hold on to what they have read
    where pages are small (34 MiB of 20,000,000 rows), and without them a column is read whole.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise pa.ArrowInvalid("the file is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _forget(mapped: mmap.mmap) -> None:
    """Let go of the pages of the file that have been read, which would count as memory of this process."""
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _is_of_this_machine(error: Exception) -> bool:
    """Whether an error of the parquet reader is not the file's fault: memory, disk or permissions."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None)


def _check_limits(footer: pq.FileMetaData, dataset: DataSet, month: date, url: str, max_rows: int) -> None:
    """Refuse what the footer alone shows to be empty, inconsistent or a bomb."""
    in_groups = sum(footer.row_group(i).num_rows for i in range(footer.num_row_groups))
    if footer.num_rows != in_groups:
        found = f"the footer promises {footer.num_rows:,} rows in all but {in_groups:,} in its row groups"
        raise _bad(dataset, month, url, f"{found}. {_ANEW}")
    if footer.num_rows <= 0:
        raise _bad(dataset, month, url, f"it has no rows. {_ANEW}")
    if footer.num_rows > max_rows:
        raise _bad(
            dataset, month, url, f"it has {footer.num_rows:,} rows; the limit is {max_rows:,}. Nothing was loaded."
        )
    if footer.num_columns > MAX_COLUMNS:
        raise _bad(
            dataset,
            month,
            url,
            f"it has {footer.num_columns:,} columns; the limit is {MAX_COLUMNS}. Nothing was loaded.",
        )
    # Of the groups as wholes: pyarrow ends the process where a footer has a damaged column.
    for group in map(footer.row_group, range(footer.num_row_groups)):
        if group.total_byte_size > MAX_ROW_BYTES * group.num_rows + GROUP_OVERHEAD_BYTES:
            found = f"it unpacks to {group.total_byte_size:,} bytes in {group.num_rows:,} rows"
            raise _bad(dataset, month, url, f"{found}; the limit is {MAX_ROW_BYTES:,} a row. Nothing was loaded.")


def _drift(match: ColumnMatch, new: Mapping[str, pa.Field]) -> Drift:
    """What is new, missing or of another type than in the files of its era."""
    return Drift(
        new_columns={
            name: "only nulls and no type: left out"
            if pa.types.is_null(field.type)
            else f"{field.type}, added as {postgres_type_for(field.type)}"
            for name, field in new.items()
        },
        missing_columns={column.name: "null in all rows" for column in match.missing},
        other_types=match.other_types,
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())


def _conversion(source: pa.DataType, target: pa.DataType) -> tuple[bool, Convert | None]:
    """Whether a type is taken for another, and what checks and casts it; None where there is nothing to do."""
    types = pa.types
    if types.is_dictionary(source) and not _is_text(source):
        castable, convert = _conversion(source.value_type, target)
        return castable, lambda array: (convert or _same)(array.dictionary_decode())
    if types.is_string(target):
        return _is_text(source), _to_text
    if types.is_timestamp(target):
        return types.is_timestamp(source), _to_timestamp
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
    return types.is_date(target) and types.is_date(source), cast


def _same(array: pa.Array) -> pa.Array:
    return array


def _to_timestamp(array: pa.Array) -> pa.Array:
    """Timestamps in microseconds, of the years that Python and Postgres both know."""
    array = array.cast(pa.timestamp("us"))
    bounds = pc.min_max(array)
    if bounds["min"].is_valid and (bounds["min"].value < _FIRST_INSTANT or bounds["max"].value > _LAST_INSTANT):
        raise pa.ArrowInvalid("not in the years 1 to 9999")
    return array


_EPOCH = datetime(1970, 1, 1)
_FIRST_INSTANT = (datetime.min - _EPOCH) // timedelta(microseconds=1)
_LAST_INSTANT = (datetime.max - _EPOCH) // timedelta(microseconds=1)


def _decimal_to_float(array: pa.Array) -> pa.Array:
    """The double nearest to each decimal: Arrow's direct cast may miss it by its last bit."""
    return array.cast(pa.string()).cast(pa.float64())


def _to_text(array: pa.Array) -> pa.Array:
    """Text that Postgres can hold, checked by distinct value."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    try:
        values = _checked_text(array.dictionary)
    except pa.ArrowInvalid:
        # A dictionary is shared by many rows; what counts is whether one of these rows uses the value.
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
    """The position of the first value that cannot be converted, by halving: it need not be fast."""
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
    """A value of a file for a message: short, and whatever it holds, printable."""
    if pa.types.is_dictionary(value.type):
        value = value.value
    if _is_text(value.type):
        return repr(value.as_buffer().to_pybytes()[:60])
    return str(value.cast(pa.string()).as_py())
