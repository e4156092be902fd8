"""`make soak`: hundreds of kills at random moments of a backfill, and thousands of sequences of the model test.

Each round starts `taxi backfill` for the same five months, and kills the process, the embedded PostgreSQL or both at a
random moment. Nothing is repaired between the rounds. At the end, one backfill must produce exact counts. The kills are
divided among lanes: parallel processes, each with its own home, PostgreSQL and download host.
"""

import argparse
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil
import psycopg
from dagster import DagsterInstance, DagsterRunStatus
from psycopg import sql

from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.months import Window
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, find, remove
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings, load_settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.programs import TAXI, delete_outer_variables
from taxi_orchestration_tests.support.statuses import month_statuses
from taxi_orchestration_tests.support.tlc_host import TlcHost, running_tlc_host

FIRST, LAST = "2023-12", "2024-04"
MONTHS = Window(date(2023, 12, 1), date(2024, 5, 1))
# The row counts of the TLC's real files of these months.
ROWS = dict(zip(MONTHS.months, (64_215, 56_551, 53_577, 57_457, 56_471), strict=True))
NONE = "none: it had ended"


@dataclass(frozen=True)
class Expected:
    """The number of rows and the total amount that a month must have at the end."""

    rows: int
    cents: int


def publish(tlc: TlcHost, real_months: Path | None) -> dict[date, Expected]:
    """Publish the months, real if available, else synthetic of the same size, and return their expected content."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    expected = {}
    for month, rows in ROWS.items():
        if real_months:
            file = real_months / "trip-data" / DATASET.file_name(month)
            tlc.publish_bytes(month, file.read_bytes())
        else:
            file = tlc.publish(month, rows=rows, seed=month.month).path
        total = pc.sum(pc.round(pc.multiply(pq.read_table(file)["total_amount"], 100))).as_py()
        expected[month] = Expected(rows, round(total))
    return expected


def kill_at_random(random_: random.Random, program: subprocess.Popen[bytes], home: Path, seconds: float) -> str | None:
    """Kill a random victim in the first seconds of a backfill, and return its name; None if the backfill has ended."""
    with suppress(subprocess.TimeoutExpired):
        program.wait(random_.uniform(0, seconds))
        return None
    victim = random_.choices(["backfill", "server", "both"], [8, 1, 1])[0]
    if victim != "server":
        os.killpg(program.pid, signal.SIGKILL)
    server = find(home) if victim != "backfill" else None
    if server:
        pid = int((server.data_directory / "postmaster.pid").read_text().splitlines()[0])
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    # A backfill may continue for a while without its server, so it gets 10 seconds before its own kill.
    if victim == "server":
        with suppress(subprocess.TimeoutExpired):
            program.wait(10)
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    return victim


def drop_schema(home: Path) -> None:
    """Drop the schema, because the first load of a month runs other code than a reload."""
    with psycopg.connect(ensure_running(home).target(WAREHOUSE_DATABASE).url()) as connection:
        schema = sql.Identifier(load_settings().schema_name)
        connection.execute(sql.SQL("drop schema if exists {} cascade").format(schema))


def check(settings: Settings, instance: DagsterInstance, expected: dict[date, Expected]) -> list[str]:
    """Return the differences from the expected state after the last backfill."""
    target = ensure_running(settings.taxi_home).target(WAREHOUSE_DATABASE)
    wrong = []
    with psycopg.connect(target.url()) as connection:
        found = connection.execute(
            sql.SQL(
                "select source_month, count(*), count(distinct source_row), round(sum(total_amount::numeric) * 100)"
                " from {} group by 1"
            ).format(sql.Identifier(settings.schema_name, "raw_trips"))
        ).fetchall()
    loaded = {month: Expected(rows, int(cents)) for month, rows, _, cents in found}
    wrong += [
        f"{month}: holds {loaded.get(month)}, not {expected[month]}"
        for month in expected
        if loaded.get(month) != expected[month]
    ]
    wrong += [f"{month}: rows are doubled" for month, rows, distinct, _ in found if rows != distinct]
    for month, status in month_statuses(Warehouse(target, settings.schema_name), instance, MONTHS).items():
        if status.state != "completed" or not status.is_exact or status.checks.failed:
            wrong.append(f"{month}: {status}")
    runs = Counter(run.status for run in instance.get_runs())
    wrong += [f"{count} runs are {status.value}" for status, count in runs.items() if status not in ENDED]
    slots = instance.event_log_storage.get_concurrency_info("dbt").active_slot_count
    wrong += [f"{slots} slots of dbt are still taken"] if slots else []
    wrong += [f"{path} is left over" for path in settings.taxi_home.glob("download-*")]
    return wrong


ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}


@contextmanager
def environment(tlc: TlcHost) -> Iterator[Path]:
    """Set a new home and the download host for this process and its children, for the duration of the block."""
    home = Path(tempfile.mkdtemp(prefix="taxi-soak-"))
    home.chmod(0o755)
    delete_outer_variables()
    os.environ.update({"TAXI_HOME": str(home), "TLC_BASE_URL": tlc.url})
    try:
        yield home
    finally:
        remove(home)
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True)
class Lane:
    """A sequence of kills, limited by number or by minutes; the seed chooses the victims and the moments."""

    name: str
    kills: int
    minutes: float
    seed: str
    real_months: Path | None


@dataclass(frozen=True)
class Result:
    """The numbers of kills by victim, and the differences from the expected state at the end."""

    counts: Counter[str]
    wrong: list[str]

    @property
    def kills(self) -> int:
        return self.counts.total() - self.counts[NONE]


def run_lane(lane: Lane) -> Result:
    """Return the result of a whole lane; needs a separate process, because the lane changes os.environ."""
    random_ = random.Random(lane.seed)
    result = Result(Counter(), [])
    with tempfile.TemporaryDirectory() as directory, running_tlc_host(Path(directory)) as tlc, environment(tlc) as home:
        expected = publish(tlc, lane.real_months)
        backfill, reprocess = [TAXI, "backfill", FIRST, LAST], ["--reprocess", "completed"]
        began = time.monotonic()
        subprocess.run(backfill, check=True, capture_output=True)
        # The first backfill creates the server and the storage; the second one gives the time span for the kills.
        second_began = time.monotonic()
        subprocess.run([*backfill, *reprocess], check=True, capture_output=True)
        seconds = time.monotonic() - second_began
        print(f"{lane.name}: one backfill takes {seconds:.1f} s", flush=True)
        while result.kills < lane.kills and time.monotonic() < began + 60 * lane.minutes:
            if random_.random() < 0.1:
                drop_schema(home)
            # Three of four backfills reprocess all months: one that only finishes the last one often ends too early.
            options = random_.choices([[], reprocess, [*reprocess, "--run-backwards"]], [1, 2, 1])[0]
            program = subprocess.Popen(
                [*backfill, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
            result.counts[kill_at_random(random_, program, home, seconds) or NONE] += 1
            if result.counts.total() % 10 == 0:
                print(f"{lane.name}: {time.monotonic() - began:6.0f} s {dict(result.counts)}", flush=True)
        last = subprocess.run(backfill, check=False, capture_output=True, text=True)
        print(f"{lane.name}: the last backfill\n{last.stderr}", flush=True)
        with open_instance() as instance:
            result.wrong.extend(check(load_settings(), instance, expected))
        if last.returncode:
            result.wrong.append(f"the last backfill ended with {last.returncode}")
    return result


def soak(kills: int, minutes: float, seed: int, lanes: int) -> list[str]:
    """Run the lanes in parallel, and return the differences from the expected state in all of them."""
    real_months = PROJECT_DIRECTORY.parent / "shared" / "tlc"
    months = real_months if real_months.is_dir() else None
    print(f"seed {seed}; {'real' if months else 'synthetic'} months; {lanes} lanes", flush=True)
    each = math.ceil(kills / lanes)
    began = time.monotonic()
    counts: Counter[str] = Counter()
    wrong = []
    with ProcessPoolExecutor(lanes, multiprocessing.get_context("spawn")) as executor:
        running = {}
        for number in range(1, lanes + 1):
            lane = Lane(f"lane {number}", each, minutes, f"{seed} {number}", months)
            running[lane.name] = executor.submit(run_lane, lane)
        for name, lane_run in running.items():
            # An error in one lane must not hide the results of the others.
            if error := lane_run.exception():
                wrong.append(f"{name}: {error!r}")
            else:
                counts += lane_run.result().counts
                wrong += [f"{name}: {found}" for found in lane_run.result().wrong]
    print("\n".join(wrong))
    done = Result(counts, wrong)
    print(f"{done.kills} kills in {time.monotonic() - began:.0f} s: {dict(counts)}; {len(wrong)} errors", flush=True)
    return wrong


def main() -> int:
    """Run the soak test with the arguments of the command line, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=200)
    arguments.add_argument("--lanes", type=int, default=2, help="parallel processes, about one per core")
    arguments.add_argument("--minutes", type=float, default=float("inf"), help="end after this many minutes")
    arguments.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments.add_argument("--sequences", type=int, default=2000, help="sequences of the model test, after the kills")
    given = arguments.parse_args()
    wrong = soak(given.kills, given.minutes, given.seed, given.lanes)
    if given.sequences:
        model = [sys.executable, "-m", "pytest", "-q", "taxi_orchestration_tests/faults/test_model.py"]
        variables = {**os.environ, "SOAK_SEQUENCES": str(given.sequences)}
        if subprocess.run(model, env=variables, cwd=PROJECT_DIRECTORY, check=False).returncode:
            print("the model test failed")
            return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
