"""A month, or the zones, from the TLC's host into the raw tables: where tlc/ and warehouse/ meet, without Dagster."""

import csv
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
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
from taxi_orchestration.warehouse.months import replace_month
from taxi_orchestration.warehouse.raw_tables import create_raw_tables, replace_zone_shapes, replace_zones
from taxi_orchestration.warehouse.warehouse import Warehouse

PREVIEW_ROWS = 5


class LoadStoppedError(Exception):
    """The run was interrupted while this month was on its way; the month is as it was."""


class Progress:
    """Is told how a run goes on; this one keeps it to itself. Called from several threads."""

    def warned(self, text: str) -> None:
        """Something that a person should know, and that stops nothing."""

    def started(self, month: date) -> None:
        """The download of a month begins."""

    def downloaded(self, month: date, received: int, total: int | None) -> None:
        """So many bytes of the month's file are here, of so many as far as the host says."""

    def opened(self, month: date, rows: int) -> None:
        """The file is here and says how many rows it has."""

    def copied(self, month: date, rows: int) -> None:
        """So many more rows went to the server."""

    def loaded(self, month: date, error: Exception | None) -> None:
        """The month is committed, or is as it was because of `error`."""

    def building(self, nodes: int) -> None:
        """dbt begins with so many models and tests."""

    def built(self) -> None:
        """One of them ended."""

    def logged(self, line: str) -> None:
        """dbt wrote a line of its log."""


@dataclass(frozen=True)
class MonthLoad:
    """What loading a month did: the file it now is, its era, and how long it took."""

    file: LoadedFile
    era: str
    pickups_outside: int
    rows_before: int
    seconds: float
    preview: list[dict[str, Any]]

    @property
    def rows_per_second(self) -> float:
        """Rows from the first byte asked for to the commit, by the second."""
        return self.file.rows / self.seconds


@dataclass(frozen=True)
class Loader:
    """Loads months into a warehouse. Make it with `open_loader`."""

    tlc: TlcClient
    warehouse: Warehouse
    scratch: Path
    stop_seconds: float = 5
    """How long an interrupted run waits for its months to roll back."""

    def load_month(
        self,
        month: date,
        run_id: str | None = None,
        progress: Progress | None = None,
        stop: threading.Event | None = None,
    ) -> MonthLoad:
        """Download a month, check it, and make raw_trips hold exactly its rows.

        Raises TlcError or WarehouseError, or LoadStoppedError once `stop` is set; raw_trips and raw_loads are then as
        they were.
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
                self._kept(f"{month:%Y-%m}"),
                self.tlc.download(month, self.scratch, on_progress=on_bytes) as download,
            ):
                return self._replace(month, download, run_id, progress, started, go_on)

        progress.started(month)
        try:
            try:
                load = load_newest()
            except NewerFileLoadedError:
                load = load_newest()
        except (TlcError, WarehouseError) as error:
            progress.loaded(month, error)
            raise
        progress.loaded(month, None)
        return load

    def load_months(
        self, months: list[date], at_once: int, run_id: str | None = None, progress: Progress | None = None
    ) -> Generator[tuple[date, MonthLoad | TlcError | WarehouseError], None, None]:
        """Load months side by side, `at_once` of them; yields each as it ends, with what it did or what stopped it."""
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
            # A month that nobody would record any more is not committed: Ctrl-C rolls back what is on its way.
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            # One that waits for a silent host or a lock would keep everybody waiting; it gives up at its next batch.
            wait([future for future in waiting if not future.cancelled()], self.stop_seconds)

    def load_zones(self) -> int:
        """Make raw_zones hold exactly the TLC's zone table; returns the number of zones."""
        with self._kept("the zones"), self.tlc.download_zones(self.scratch) as download:
            zones = read_zones(download)
        replace_zones(self.warehouse, zones)
        return len(zones)

    def load_zone_shapes(self) -> int:
        """Make raw_zone_shapes hold exactly the TLC's shapes, simplified; returns their number."""
        # Imported here: geometry takes a while, and most processes load no shapes.
        from taxi_orchestration.tlc.zone_shapes import read_zone_shapes, simplify_zone_shapes

        with self._kept("the shapes of the zones"), self.tlc.download_zone_shapes(self.scratch) as download:
            shapes = simplify_zone_shapes(read_zone_shapes(download.path))
        rows = [(shape.zone_id, shape.borough, shape.zone_name, shape.polygons) for shape in shapes]
        replace_zone_shapes(self.warehouse, rows)
        return len(rows)

    @contextmanager
    def _kept(self, what: str) -> Iterator[None]:
        """Turn what this machine has against a file into an error that says so."""
        try:
            yield
        except OSError as error:
            raise LocalFileError(
                f"Loading {what}: the file could not be kept in {self.scratch}: {error.strerror or error}. Nothing was "
                "changed. Make room there, or set TAXI_HOME to another directory, and load it again."
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
                drift=file.drift.to_dict(),
                dagster_run_id=run_id,
            )
            preview: list[dict[str, Any]] = []

            def batches() -> Iterator[pa.RecordBatch]:
                for batch in file.batches():
                    go_on()
                    if not preview:
                        # As rows: a slice would keep the whole batch for as long as the run remembers the load.
                        preview.extend(batch.slice(0, PREVIEW_ROWS).to_pylist())
                    yield batch

            replaced = replace_month(
                self.warehouse,
                loaded,
                file.schema,
                batches(),
                file.new_columns,
                on_rows=lambda rows: progress.copied(month, rows),
                asked_at=started,
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
    """The zones of a downloaded zone table. Raises BadFileError for anything that is not one."""
    header = [column.source_name for column in ZONE_COLUMNS]
    try:
        with download.path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames != header:
                raise ValueError(f"its first line is {','.join(rows.fieldnames or ())!r}")
            found = list(rows)
        # What csv makes of a line with a field too many, or too few.
        if not found or any(None in row or None in row.values() for row in found):
            raise ValueError(f"it has {len(found)} zones, or one with another number of fields")
        return [(int(number), *names) for number, *names in (row.values() for row in found)]
    except (ValueError, csv.Error) as error:
        raise BadFileError(
            f"Reading the zone table from {download.url}: {error}, where {','.join(header)} and a line for each zone "
            "was expected. Nothing was changed. Look at the address in a browser, and check TLC_BASE_URL."
        ) from error


@contextmanager
def open_loader(
    settings: Settings,
    warehouse: Warehouse,
    dataset: DataSet = DATASET,
    *,
    on_retry: Callable[[str], None] = lambda text: None,
) -> Iterator[Loader]:
    """A loader for a warehouse, its tables made where they were missing.

    `on_retry` is called with a sentence before a request to the TLC's host is made again.
    """
    create_raw_tables(warehouse, dataset)
    with (
        TlcClient(settings.tlc_base_url, dataset, on_retry=on_retry) as tlc,
        scratch_directory(make_home(settings)) as scratch,
    ):
        yield Loader(tlc, warehouse, scratch)
