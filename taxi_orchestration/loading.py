"""Loads of months and zones from the TLC's host into the raw tables: tlc/ and warehouse/ together, no Dagster."""

import csv
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from taxi_orchestration.postgres.connection import WarehouseError
from taxi_orchestration.settings import Settings, make_home
from taxi_orchestration.tlc.client import Download, TlcClient
from taxi_orchestration.tlc.dataset import DATASET, ZONE_COLUMNS, DataSet
from taxi_orchestration.tlc.errors import BadFileError, LocalFileError, TlcError
from taxi_orchestration.tlc.parquet import MonthFile
from taxi_orchestration.tlc.scratch import scratch_directory
from taxi_orchestration.warehouse.copy import arrow_types
from taxi_orchestration.warehouse.load_log import LoadedFile, NewerFileLoadedError
from taxi_orchestration.warehouse.measures import PREVIEW_ROWS
from taxi_orchestration.warehouse.months import ColumnAddedError, replace_month
from taxi_orchestration.warehouse.raw_tables import create_raw_tables, replace_zone_shapes, replace_zones
from taxi_orchestration.warehouse.warehouse import Warehouse


class LoadStoppedError(Exception):
    """The run was interrupted during the load of this month; the month is unchanged."""


class Progress:
    """The receiver of a run's progress, called from several threads; this base class ignores the calls."""

    def warned(self, text: str) -> None:
        """Report a warning that does not stop the run."""

    def started(self, month: date) -> None:
        """Report that the download of a month begins."""

    def downloaded(self, month: date, received: int, total: int | None) -> None:
        """Report the received bytes of a month's file, and the total if the host sends it."""

    def opened(self, month: date, rows: int) -> None:
        """Report that a month's file is downloaded, with the rows of its footer."""

    def copied(self, month: date, rows: int) -> None:
        """Report the number of further rows that were copied to the server."""

    def loaded(self, month: date, error: Exception | None) -> None:
        """Report that the month is committed, or unchanged because of `error`."""

    def building(self, nodes: int) -> None:
        """Report that dbt starts, with the number of its models and tests."""

    def built(self) -> None:
        """Report that dbt finished one model or test."""

    def logged(self, line: str) -> None:
        """Report a line of dbt's log."""


@dataclass(frozen=True)
class MonthLoad:
    """The result of loading a month: the loaded file, its era, and the duration."""

    file: LoadedFile
    era: str
    pickups_outside: int
    rows_before: int
    seconds: float
    preview: list[dict[str, Any]]

    @property
    def rows_per_second(self) -> float:
        """Return the rows per second, from the first request to the commit."""
        return self.file.rows / self.seconds


@dataclass(frozen=True)
class Loader:
    """Loads months into a warehouse; made by `open_loader`."""

    tlc: TlcClient
    warehouse: Warehouse
    scratch: Path
    stop_seconds: float = 5
    """The time for which an interrupted run waits for its months to roll back."""

    def load_month(
        self,
        month: date,
        run_id: str | None = None,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> MonthLoad:
        """Download a month, check its file, and replace the month's rows in raw_trips by those of the file.

        Raises TlcError or WarehouseError, or LoadStoppedError once `stop` is set; raw_trips and raw_loads are then
        unchanged.
        """
        progress = progress or Progress()
        stop = stop or threading.Event()

        def go_on() -> None:
            if stop.is_set():
                raise LoadStoppedError(month)

        def on_bytes(received: int, total: int | None) -> None:
            go_on()
            progress.downloaded(month, received, total)

        def load_newest() -> MonthLoad:
            started = time.perf_counter()
            with (
                self._translate_errors(f"{month:%Y-%m}"),
                self.tlc.download(month, self.scratch, on_progress=on_bytes) as download,
            ):
                return self._replace(month, download, run_id, progress, started, go_on)

        progress.started(month)
        try:
            try:
                load = load_newest()
            except (NewerFileLoadedError, ColumnAddedError):
                load = load_newest()
        except (TlcError, WarehouseError) as error:
            progress.loaded(month, error)
            raise
        progress.loaded(month, None)
        return load

    def load_months(
        self, months: list[date], at_once: int, run_id: str | None = None, progress: Progress | None = None
    ) -> Generator[tuple[date, MonthLoad | TlcError | WarehouseError], None, None]:
        """Load months, `at_once` of them in parallel; yield each finished month with its result or its error."""
        executor = ThreadPoolExecutor(at_once, thread_name_prefix="load")
        stop = threading.Event()
        try:
            waiting = {executor.submit(self.load_month, month, run_id, progress, stop): month for month in months}
            for future in as_completed(waiting):
                error = future.exception()
                if error is None:
                    yield waiting[future], future.result()
                elif isinstance(error, TlcError | WarehouseError):
                    yield waiting[future], error
                else:
                    raise error
        finally:
            # A month that Dagster would no longer record must not be committed: Ctrl-C rolls back unfinished months.
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            # A month that waits for a silent host or a lock would delay the exit; it stops at its next batch.
            wait([future for future in waiting if not future.cancelled()], self.stop_seconds)

    def load_zones(self) -> int:
        """Replace raw_zones by the TLC's zone table; return the number of zones. Raises TlcError or WarehouseError."""
        with self._translate_errors("the zones"), self.tlc.download_zones(self.scratch) as download:
            zones = read_zones(download)
        replace_zones(self.warehouse, zones)
        return len(zones)

    def load_zone_shapes(self) -> int:
        """Replace raw_zone_shapes by the TLC's shapes, simplified; return the number of shapes.

        Raises TlcError or WarehouseError.
        """
        # Imported here: the geometry libraries take long to import, and most processes load no shapes.
        from taxi_orchestration.tlc.zone_shapes import read_zone_shapes, simplify_zone_shapes

        with self._translate_errors("the shapes of the zones"), self.tlc.download_zone_shapes(self.scratch) as download:
            shapes = simplify_zone_shapes(read_zone_shapes(download.path, download.url))
        rows = [(shape.zone_id, shape.borough, shape.zone_name, shape.polygons) for shape in shapes]
        replace_zone_shapes(self.warehouse, rows)
        return len(rows)

    @contextmanager
    def _translate_errors(self, what: str) -> Iterator[None]:
        """Translate an OSError of a downloaded file into LocalFileError."""
        try:
            yield
        except OSError as error:
            raise LocalFileError(
                f"Loading {what}: the file could not be stored in {self.scratch}: {error.strerror or error}. "
                "Nothing was changed. Free some space, or set TAXI_HOME to another directory, and load again."
            ) from error

    def _replace(
        self,
        month: date,
        download: Download,
        run_id: str | None,
        progress: Progress,
        started: float,
        go_on: Callable[[], None],
    ) -> MonthLoad:
        with MonthFile.open(download.path, month, download.url, self.tlc.dataset) as file:
            if file.new_columns:
                file.adopt_types(arrow_types(self.warehouse, "raw_trips"))
            progress.opened(month, file.rows)
            loaded = LoadedFile(
                source_month=month,
                url=download.url,
                etag=download.etag,
                last_modified=download.last_modified,
                bytes=download.bytes,
                sha256=download.sha256,
                rows=file.rows,
                columns=file.columns,
                drift=asdict(file.drift),
                dagster_run_id=run_id,
            )
            preview: list[dict[str, Any]] = []

            def batches() -> Iterator[pa.RecordBatch]:
                for batch in file.batches():
                    go_on()
                    if not preview:
                        # As rows: a slice would keep the whole batch in memory until the run ends.
                        preview.extend(batch.slice(0, PREVIEW_ROWS).to_pylist())
                    yield batch

            def on_rows(rows: int) -> None:
                progress.copied(month, rows)
                # The batches are read ahead: a small month is read before its first rows are copied.
                go_on()

            replaced = replace_month(
                self.warehouse,
                loaded,
                file.schema,
                batches(),
                file.new_columns,
                on_rows=on_rows,
                requested_at=started,
            )
            return MonthLoad(
                file=replaced.file,
                era=file.era,
                pickups_outside=file.pickups_outside,
                rows_before=replaced.rows_before,
                seconds=time.perf_counter() - started,
                preview=preview,
            )


def read_zones(download: Download) -> list[tuple[int | str, ...]]:
    """Return the zones of a downloaded zone table. Raises BadFileError for any other file."""
    header = [column.source_name for column in ZONE_COLUMNS]
    try:
        with download.path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != header:
                raise ValueError(f"its first line is {','.join(rows.fieldnames or ())!r}")
            found = list(rows)
        # csv has a None key for a line with too many fields, and a None value for one with too few.
        if not found or any(None in row or None in row.values() for row in found):
            raise ValueError(f"it has {len(found)} zones, or a zone with a wrong number of fields")
        return [(int(number), *names) for number, *names in (row.values() for row in found)]
    except (ValueError, csv.Error) as error:
        raise BadFileError(
            f"Reading the zone table from {download.url}: {error}, but {','.join(header)} and a line for each zone "
            "were expected. Nothing was changed. Open the address in a browser, and check TLC_BASE_URL."
        ) from error


@contextmanager
def open_loader(
    settings: Settings,
    warehouse: Warehouse,
    dataset: DataSet = DATASET,
    *,
    on_retry: Callable[[str], None] = lambda text: None,
) -> Iterator[Loader]:
    """Open a loader for a warehouse and create the missing raw tables.

    `on_retry` is called with a sentence before each retry of a request to the TLC's host. Raises WarehouseError for a
    schema that cannot be used, or that holds another data set.
    """
    create_raw_tables(warehouse, dataset)
    with (
        TlcClient(settings.tlc_base_url, dataset, on_retry=on_retry) as tlc,
        scratch_directory(make_home(settings)) as scratch,
    ):
        yield Loader(tlc, warehouse, scratch)
