"""Replacing a month of raw_trips in a real PostgreSQL: completely or not at all, with concurrent readers and loads."""

import dataclasses
import itertools
import multiprocessing
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql

from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.contract import arrow_schema
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.load_log import LoadedFile, loaded_files
from taxi_orchestration.warehouse.months import ReplacedMonth, replace_month
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.synthetic import month_table
from taxi_orchestration_tests.support.warehouses import connect_to_schema

ARROW_SCHEMA = arrow_schema(DATASET)
Rows = list[tuple[Any, ...]]


@dataclasses.dataclass(frozen=True)
class Raw:
    """The raw tables of one schema."""

    target: PostgresTarget
    schema: str

    def load(
        self,
        month: date,
        table: pa.Table,
        *,
        batches: Iterable[pa.RecordBatch] | None = None,
        new_columns: Mapping[str, str] = MappingProxyType({}),
        run_id: str | None = None,
    ) -> ReplacedMonth:
        file = LoadedFile(
            source_month=month,
            url=f"http://host/{month}",
            etag='"e"',
            last_modified=datetime(2024, 5, 1, tzinfo=UTC),
            bytes=1,
            sha256="f" * 64,
            rows=table.num_rows,
            columns={"VendorID": "int32"},
            drift={},
            dagster_run_id=run_id,
        )
        return replace_month(
            Warehouse(self.target, self.schema),
            file,
            table.schema,
            table.to_batches(max_chunksize=64) if batches is None else batches,
            new_columns,
        )

    def connected(self) -> psycopg.Connection:
        return connect_to_schema(self.target, self.schema)

    def query(self, query: str, *values: object) -> Rows:
        with self.connected() as connection:
            return connection.execute(query, values).fetchall()

    def fetch_rows(self, month: date) -> Rows:
        """Return the rows of a month in the order of its file, without the key columns."""
        names = ", ".join(ARROW_SCHEMA.names)
        return self.query(f"select {names} from raw_trips where source_month = %s order by source_row", month)

    def fetch_everything(self) -> tuple[Rows, Rows]:
        """Return the content of the raw tables without the time of the load."""
        return (
            self.query("select * from raw_trips order by source_month, source_row"),
            self.query("select source_month, rows, rows_sha256, dagster_run_id from raw_loads order by 1"),
        )


def make_trips(month: date, rows: int = 200, seed: int = 0, *, resaved: bool = False) -> pa.Table:
    """Return a synthetic month with the columns and types of the contract."""
    synthetic = month_table(month, rows, seed=seed, resaved=resaved)
    synthetic = synthetic.rename_columns([name.lower() for name in synthetic.column_names])
    columns = [
        synthetic[field.name].cast(field.type) if field.name in synthetic.column_names else pa.nulls(rows, field.type)
        for field in ARROW_SCHEMA
    ]
    return pa.table(columns, schema=ARROW_SCHEMA)


def to_rows(table: pa.Table) -> Rows:
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.fixture
def raw(settings: Settings, target: PostgresTarget) -> Raw:
    create_raw_tables(Warehouse(target, settings.schema_name))
    return Raw(target, settings.schema_name)


def test_a_first_load_holds_every_row_in_the_order_of_the_file(raw: Raw) -> None:
    table = make_trips(JANUARY)
    replaced = raw.load(JANUARY, table, run_id="run")
    assert raw.fetch_rows(JANUARY) == to_rows(table)
    assert raw.query("select min(source_row), max(source_row), count(distinct source_row) from raw_trips") == [
        (1, 200, 200)
    ]
    assert replaced.rows_before == 0
    assert replaced.file.rows_sha256 is not None
    recorded = loaded_files(Warehouse(raw.target, raw.schema))
    assert list(recorded) == [JANUARY]
    assert dataclasses.replace(recorded[JANUARY], loaded_at=None) == replaced.file
    assert recorded[JANUARY].loaded_at is not None


@pytest.mark.parametrize("rows", [1, 199, 200, 201, 1000])
def test_a_reload_with_other_rows_leaves_only_the_new_rows(raw: Raw, rows: int) -> None:
    raw.load(JANUARY, make_trips(JANUARY, 200))
    raw.load(FEBRUARY, make_trips(FEBRUARY, 50))
    table = make_trips(JANUARY, rows, seed=1)
    replaced = raw.load(JANUARY, table)
    assert replaced.rows_before == 200
    assert raw.fetch_rows(JANUARY) == to_rows(table)
    assert raw.fetch_rows(FEBRUARY) == to_rows(make_trips(FEBRUARY, 50))
    assert raw.query("select rows from raw_loads order by source_month") == [(rows,), (50,)]


def test_a_reload_with_no_rows_leaves_none(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    raw.load(JANUARY, make_trips(JANUARY).slice(0, 0))
    assert raw.fetch_rows(JANUARY) == []
    assert raw.query("select rows from raw_loads") == [(0,)]


def test_loading_the_same_month_again_changes_nothing(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    before = raw.fetch_everything()
    for _ in range(3):
        raw.load(JANUARY, make_trips(JANUARY))
    assert raw.fetch_everything() == before


def test_the_order_of_the_months_makes_no_difference(raw: Raw) -> None:
    months = [JANUARY, FEBRUARY, MARCH]
    seen = []
    for order in itertools.permutations(months):
        for month in order:
            raw.load(month, make_trips(month))
        seen.append(raw.fetch_everything())
    assert all(state == seen[0] for state in seen)
    assert len(seen[0][0]) == 600


def test_the_key_is_enforced_by_the_database(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY, 5))
    copy = "insert into raw_trips select * from raw_trips where source_row = 3"
    with pytest.raises(psycopg.errors.UniqueViolation), raw.connected() as connection:
        connection.execute(copy)
    assert len(raw.fetch_rows(JANUARY)) == 5


def test_a_month_is_one_partition_and_a_query_of_it_reads_no_other(raw: Raw) -> None:
    for month in (JANUARY, FEBRUARY):
        raw.load(month, make_trips(month))
    plan = raw.query("explain select count(*) from raw_trips where source_month = '2024-02-01'")
    text = "\n".join(line for (line,) in plan)
    assert "raw_trips_2024_02" in text
    assert "raw_trips_2024_01" not in text


def test_a_month_loaded_by_eight_threads_at_once_has_the_rows_of_the_last_one(raw: Raw) -> None:
    with ThreadPoolExecutor(8) as executor:
        versions = list(
            executor.map(lambda v: raw.load(JANUARY, make_trips(JANUARY, 100 + v, seed=v), run_id=str(v)), range(8))
        )
    recorded = loaded_files(Warehouse(raw.target, raw.schema))[JANUARY]
    last = int(recorded.dagster_run_id or "")
    assert raw.fetch_rows(JANUARY) == to_rows(make_trips(JANUARY, 100 + last, seed=last))
    assert recorded.rows_sha256 == versions[last].file.rows_sha256
    assert sum(version.rows_before == 0 for version in versions) == 1


def load_in_process(arguments: tuple[PostgresTarget, str, int]) -> None:
    target, schema, seed = arguments
    create_raw_tables(Warehouse(target, schema))
    Raw(target, schema).load(JANUARY, make_trips(JANUARY, 150, seed=seed), run_id=str(seed))


def test_eight_processes_that_start_in_an_empty_schema_load_one_complete_month(
    settings: Settings, target: PostgresTarget
) -> None:
    jobs = [(target, settings.schema_name, seed) for seed in range(8)]
    processes = multiprocessing.get_context("forkserver")
    # The fork server imports this module once for all eight processes.
    processes.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(8, processes) as executor:
        list(executor.map(load_in_process, jobs))
    raw = Raw(target, settings.schema_name)
    last = int(loaded_files(Warehouse(target, settings.schema_name))[JANUARY].dagster_run_id or "")
    assert raw.fetch_rows(JANUARY) == to_rows(make_trips(JANUARY, 150, seed=last))


@pytest.mark.parametrize("loaded_before", [False, True])
@pytest.mark.parametrize("failure", [ValueError("a damaged page"), KeyboardInterrupt(), MemoryError()])
def test_an_error_between_batches_leaves_everything_as_it_was(
    raw: Raw, loaded_before: bool, failure: BaseException
) -> None:
    if loaded_before:
        raw.load(JANUARY, make_trips(JANUARY))
    before = raw.fetch_everything()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from make_trips(JANUARY, 1000, seed=1).to_batches(max_chunksize=100)[:7]
        raise failure

    with pytest.raises(type(failure)):
        raw.load(JANUARY, make_trips(JANUARY, 1000), batches=batches())
    assert raw.fetch_everything() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "read-ahead"]
    raw.load(JANUARY, make_trips(JANUARY))
    assert raw.fetch_rows(JANUARY) == to_rows(make_trips(JANUARY))


def test_fewer_rows_than_the_file_declares_are_refused_and_nothing_is_changed(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    before = raw.fetch_everything()
    with pytest.raises(WarehouseError, match=r"the file has 300 rows, PostgreSQL copied 200\. Nothing was changed"):
        raw.load(JANUARY, make_trips(JANUARY, 300), batches=make_trips(JANUARY, 200).to_batches())
    assert raw.fetch_everything() == before


def test_the_load_and_its_record_are_one_transaction(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    before = raw.fetch_everything()
    with raw.connected() as connection:
        connection.execute("alter table raw_loads add constraint no_more check (rows <> 7) not valid")
    with pytest.raises(WarehouseError, match="no_more"):
        raw.load(JANUARY, make_trips(JANUARY, 7))
    assert raw.fetch_everything() == before


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("alter column fare_amount type numeric", "fare_amount should be double precision, but is numeric"),
        ("alter column vendorid type bigint", "vendorid should be integer, but is bigint"),
        ("alter column store_and_fwd_flag type char(1)", "store_and_fwd_flag should be text, but is character"),
        ("drop column tip_amount", "tip_amount should be double precision, but is missing"),
        ("rename column extra to extras", "extra should be double precision, but is missing"),
    ],
)
def test_a_table_that_was_altered_is_refused_before_any_row_is_copied(raw: Raw, change: str, found: str) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    with raw.connected() as connection:
        connection.execute(sql.SQL("alter table raw_trips {}").format(sql.SQL(change)))
    before = raw.fetch_everything()
    refusal = rf"raw_trips_2024_0\d\.{found}: .*by hand.* Nothing was changed\. Run: alter table"
    for month in (JANUARY, FEBRUARY):
        with pytest.raises(WarehouseError, match=refusal):
            raw.load(month, make_trips(month))
    assert raw.fetch_everything() == before


def test_a_foreign_table_with_the_name_of_a_month_is_refused_and_not_changed(raw: Raw) -> None:
    with raw.connected() as connection:
        connection.execute("create table raw_trips_2024_01 as select 'mine' as whose")
    with pytest.raises(WarehouseError, match=r"raw_trips_2024_01 exists but is not a partition .* drop it, then load"):
        raw.load(JANUARY, make_trips(JANUARY))
    assert raw.query("select whose from raw_trips_2024_01") == [("mine",)]
    assert loaded_files(Warehouse(raw.target, raw.schema)) == {}


def test_a_new_column_of_a_file_is_added_and_null_in_older_months(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    table = make_trips(FEBRUARY).append_column("night_fee", pa.array([0.5] * 200))
    raw.load(FEBRUARY, table, new_columns={"night_fee": "double precision"})
    counts = "select source_month, count(*), count(night_fee) from raw_trips group by 1 order by 1"
    assert raw.query(counts) == [(JANUARY, 200, 0), (FEBRUARY, 200, 200)]
    raw.load(FEBRUARY, make_trips(FEBRUARY))
    raw.load(MARCH, make_trips(MARCH))
    assert raw.query(counts) == [(JANUARY, 200, 0), (FEBRUARY, 200, 0), (MARCH, 200, 0)]


def test_a_new_column_whose_load_fails_is_not_added(raw: Raw) -> None:
    table = make_trips(JANUARY).append_column("night_fee", pa.array([0.5] * 200))
    with pytest.raises(WarehouseError):
        raw.load(JANUARY, table, batches=[], new_columns={"night_fee": "double precision"})
    assert raw.query("select count(*) from information_schema.columns where column_name = 'night_fee'") == [(0,)]


def test_the_same_rows_have_the_same_digest_however_the_file_was_saved(raw: Raw) -> None:
    first = raw.load(JANUARY, make_trips(JANUARY)).file
    resaved = raw.load(JANUARY, make_trips(JANUARY, resaved=True)).file
    other = raw.load(JANUARY, make_trips(JANUARY, seed=1)).file
    one_cent = make_trips(JANUARY)
    index = one_cent.schema.get_field_index("tip_amount")
    tips = one_cent["tip_amount"].to_pylist()
    tips[-1] += 0.01
    changed = raw.load(JANUARY, one_cent.set_column(index, "tip_amount", pa.array(tips))).file
    assert first.rows_sha256 == resaved.rows_sha256
    assert len({first.rows_sha256, other.rows_sha256, changed.rows_sha256}) == 3


def test_the_digest_does_not_depend_on_how_the_rows_are_split_into_batches(raw: Raw) -> None:
    table = make_trips(JANUARY, 1000)
    digests = {
        raw.load(JANUARY, table, batches=table.to_batches(max_chunksize=size)).file.rows_sha256
        for size in (1, 64, 999, 1000)
    }
    assert len(digests) == 1


def test_a_reader_with_an_open_transaction_delays_no_load_and_sees_the_old_month(raw: Raw) -> None:
    raw.load(JANUARY, make_trips(JANUARY))
    count = "select source_month, count(*), round(sum(total_amount)::numeric, 2) from raw_trips group by 1 order by 1"
    with raw.connected() as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        before = reader.execute(count).fetchall()
        reader.execute("select count(*) from raw_trips_2024_01")
        started = time.monotonic()
        raw.load(JANUARY, make_trips(JANUARY, 300, seed=1))
        raw.load(FEBRUARY, make_trips(FEBRUARY))
        raw.load(JANUARY, make_trips(JANUARY, 100, seed=2))
        assert time.monotonic() - started < 10
        assert reader.execute(count).fetchall() == before
        reader.commit()
        after = reader.execute(count).fetchall()
    assert [(month, rows) for month, rows, _ in after] == [(JANUARY, 100), (FEBRUARY, 200)]


@pytest.mark.parametrize(
    "lock_statement", ["lock table raw_trips_2024_01 in access exclusive mode", "select * from raw_trips for update"]
)
def test_a_load_waits_for_a_lock_of_another_session_and_then_names_its_holder(raw: Raw, lock_statement: str) -> None:
    raw = dataclasses.replace(raw, target=dataclasses.replace(raw.target, lock_timeout="300ms"))
    raw.load(JANUARY, make_trips(JANUARY))
    before = raw.fetch_everything()
    with psycopg.connect(raw.target.url(), application_name="other_session") as other_session:
        other_session.execute(sql.SQL("set search_path = {}").format(sql.Identifier(raw.schema)))
        other_session.execute(f"set application_name = 'other_session'; {lock_statement}")
        started = time.monotonic()
        with pytest.raises(WarehouseUnavailableError) as caught:
            raw.load(JANUARY, make_trips(JANUARY, seed=1))
        assert time.monotonic() - started < 10
        message = str(caught.value)
        assert f"process {other_session.info.backend_pid} of {raw.target.user} (other_session), in " in message
        assert "Nothing was changed" in message
        assert raw.target.password not in message
        assert "set application_name = '…'; " in message, "a literal may be a password"
    assert raw.fetch_everything() == before
    raw.load(JANUARY, make_trips(JANUARY, seed=1))
