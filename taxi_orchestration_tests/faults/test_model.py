"""Random sequences of loads, failures, kills, re-issues and retries: a month is absent or exactly one accepted file.

hypothesis chooses the sequence; after each step the database must equal a dictionary. A failure prints its steps.
`make soak` runs thousands of sequences.
"""

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import cache
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import sql

from taxi_orchestration.loading import Loader, LoadStoppedError
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running, remove, stop
from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.warehouse.raw_tables import create_raw_tables
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.http_host import Answer, ok, reset_after, status
from taxi_orchestration_tests.support.months import MonthContent, content_of_file, contents_of_database
from taxi_orchestration_tests.support.parquet_files import damaged, file_version
from taxi_orchestration_tests.support.programs import kill_9
from taxi_orchestration_tests.support.stages import CallAtStage
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path, running_tlc_host

SCHEMA = "model"
# One month of each era.
MONTHS = (date(2022, 1, 1), date(2024, 1, 1), date(2025, 1, 1))
VERSIONS = (1, 2, 3)
# Without the prefix TAXI_, because conftest.py deletes variables with this prefix from the outer environment.
SEQUENCES = int(os.environ.get("SOAK_SEQUENCES", "50"))
STEPS = 10

months = st.sampled_from(MONTHS)
versions = st.sampled_from(VERSIONS)


@cache
def read_content(month: date, version: int) -> MonthContent:
    return content_of_file(file_version(month, version))


class BrokenError(Exception):
    """The error that a stage raises on request."""


def fail() -> None:
    raise BrokenError


def make_loader(url: str, target: PostgresTarget, scratch: Path) -> Loader:
    return Loader(TlcClient(url, attempts=1, read_timeout=5), Warehouse(target, SCHEMA), scratch)


def load_in_this_process(url: str, target: PostgresTarget, scratch: Path, month: date, killed_at: str | None) -> None:
    make_loader(url, target, scratch).load_month(
        month, progress=CallAtStage(killed_at or "", lambda: kill_9(os.getpid()))
    )


# Processes are forked from a server process without threads, which has imported all modules once.
FORKS = multiprocessing.get_context("forkserver")
# pandas too: pyarrow imports it at the first conversion of a value, which takes 0.3 s per process.
FORKS.set_forkserver_preload(["pandas", "taxi_orchestration.loading", __name__])


def load_in_processes(*arguments: tuple[str, PostgresTarget, Path, date, str | None]) -> None:
    """Load in several processes at once, one for each tuple of arguments."""
    processes = [FORKS.Process(target=load_in_this_process, args=given, daemon=True) for given in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL)


class Months(RuleBasedStateMachine):
    """The state machine, with the real loader and server; the test sets `world`."""

    world: "World"

    @initialize(
        issued=st.tuples(*[st.sampled_from((0, *VERSIONS))] * len(MONTHS)),
        # A restart takes as long as the rest of a sequence.
        may_restart=st.sampled_from([False, False, False, True]),
    )
    def begin(self, issued: tuple[int, ...], may_restart: bool) -> None:
        self.world.reset()
        self.model: dict[date, MonthContent] = {}
        self.current: dict[date, int] = {}
        self.may_restart = may_restart
        for month, version in zip(MONTHS, issued, strict=True):
            if version:
                self.publish(month, version)

    @rule(month=months, version=versions)
    def publish(self, month: date, version: int) -> None:
        self.world.publish(month, version)
        self.current[month] = version

    @rule(month=months)
    def load(self, month: date) -> None:
        try:
            load = self.world.loader.load_month(month)
        except TlcError:
            assert month not in self.current
        else:
            self._is_loaded(month)
            assert load.file.sha256 == self.model[month].sha256

    @rule(month=months, version=versions)
    def publish_and_load(self, month: date, version: int) -> None:
        self.publish(month, version)
        self.load(month)

    @rule(month=months, fault=st.sampled_from(["refused", "reset", "truncated", "page", "damaged", "withdrawn"]))
    def load_from_a_broken_host(self, month: date, fault: str) -> None:
        data = file_version(month, self.current.get(month, 1))
        answers: dict[str, Answer] = {
            "refused": status(503),
            "reset": reset_after(data, len(data) // 2),
            "truncated": ok(data[: len(data) // 2]),
            "page": ok(b"<html>sorry</html>"),
            "damaged": ok(damaged(data)),
            "withdrawn": status(403),
        }
        with self.world.answering(month, answers[fault]), pytest.raises(TlcError):
            self.world.loader.load_month(month)

    @precondition(lambda self: self.current)
    @rule(data=st.data(), stage=st.sampled_from(["started", "opened", "copied"]))
    def load_that_breaks(self, data: st.DataObject, stage: str) -> None:
        month = data.draw(st.sampled_from(sorted(self.current)))
        with pytest.raises(BrokenError):
            self.world.loader.load_month(month, progress=CallAtStage(stage, fail))

    @precondition(lambda self: self.current)
    @rule(data=st.data(), stage=st.sampled_from(["started", "opened"]))
    def load_that_is_stopped(self, data: st.DataObject, stage: str) -> None:
        month = data.draw(st.sampled_from(sorted(self.current)))
        stop_event = threading.Event()
        with pytest.raises(LoadStoppedError):
            self.world.loader.load_month(month, progress=CallAtStage(stage, stop_event.set), stop=stop_event)

    @precondition(lambda self: self.current)
    @rule(data=st.data())
    def load_whose_connection_is_cut(self, data: st.DataObject) -> None:
        month = data.draw(st.sampled_from(sorted(self.current)))
        with pytest.raises(WarehouseUnavailableError):
            self.world.loader.load_month(month, progress=CallAtStage("copied", self.world.cut_connections))

    @precondition(lambda self: self.current)
    @rule(data=st.data(), stage=st.sampled_from(["started", "opened", "copied", "loaded"]))
    def load_that_is_killed(self, data: st.DataObject, stage: str) -> None:
        month = data.draw(st.sampled_from(sorted(self.current)))
        load_in_processes((self.world.tlc.url, self.world.target, self.world.scratch, month, stage))
        if stage == "loaded":
            self._is_loaded(month)

    @precondition(lambda self: self.current)
    @rule(data=st.data(), processes=st.sampled_from([False, False, False, True]))
    def load_from_two_at_once(self, data: st.DataObject, processes: bool) -> None:
        some = [data.draw(st.sampled_from(sorted(self.current))) for _ in range(2)]
        if processes:
            world = self.world
            load_in_processes(*((world.tlc.url, world.target, world.scratch, month, None) for month in some))
        else:
            with ThreadPoolExecutor(len(some)) as threads:
                list(threads.map(self.world.loader.load_month, some))
        for month in some:
            self._is_loaded(month)

    @precondition(lambda self: self.current)
    @rule(data=st.data(), version=versions)
    def load_that_is_overtaken_by_a_reissue(self, data: st.DataObject, version: int) -> None:
        month = data.draw(st.sampled_from(sorted(self.current)))

        def reissue() -> None:
            self.publish_and_load(month, version)

        self.world.loader.load_month(month, progress=CallAtStage("opened", reissue))
        self._is_loaded(month)

    @precondition(lambda self: self.current and self.may_restart)
    @rule(data=st.data(), in_the_middle=st.booleans())
    def restart_the_server(self, data: st.DataObject, in_the_middle: bool) -> None:
        self.may_restart = False
        month = data.draw(st.sampled_from(sorted(self.current)))
        if in_the_middle:
            with pytest.raises(WarehouseError):
                self.world.loader.load_month(month, progress=CallAtStage("copied", self.world.stop))
        self.world.restart()

    @invariant()
    def check_database(self) -> None:
        assert self.world.holds() == self.model

    def _is_loaded(self, month: date) -> None:
        self.model[month] = read_content(month, self.current[month])


class World:
    """A separate server, because the test restarts it, and a download host."""

    def __init__(self, home: Path, tlc: TlcHost) -> None:
        self.home, self.tlc = home, tlc
        self.scratch = home / "scratch"
        self.target: PostgresTarget = ensure_running(home).target(WAREHOUSE_DATABASE)
        self.scratch.mkdir(exist_ok=True)
        self.connection = psycopg.connect(self.target.url(), autocommit=True, prepare_threshold=None)
        self.loader = make_loader(tlc.url, self.target, self.scratch)

    def reset(self) -> None:
        self.connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(SCHEMA)))
        create_raw_tables(Warehouse(self.target, SCHEMA))
        for month in MONTHS:
            self.tlc.withdraw(month)

    def publish(self, month: date, version: int) -> None:
        self.tlc.publish_bytes(month, file_version(month, version))

    @contextmanager
    def answering(self, month: date, answer: Answer) -> Iterator[None]:
        """Replace the host's answer for a month for the duration of the block."""
        answers, path = self.tlc.http.answers, month_path(month)
        before = answers.get(path)
        answers[path] = [answer]
        try:
            yield
        finally:
            answers.pop(path)
            if before is not None:
                answers[path] = before

    def cut_connections(self) -> None:
        self.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'taxi' and state = 'active'"
        )

    def stop(self) -> None:
        stop(self.home, "immediate")

    def restart(self) -> None:
        self.stop()
        ensure_running(self.home)
        self.connection = psycopg.connect(self.target.url(), autocommit=True, prepare_threshold=None)

    def holds(self) -> dict[date, MonthContent]:
        return contents_of_database(self.connection, SCHEMA)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Not below tmp_path: if root runs the tests, the server's account cannot enter it, and the data would be elsewhere.
    home = Path(tempfile.mkdtemp(prefix="taxi-model-"))
    home.chmod(0o755)
    with running_tlc_host(tmp_path_factory.mktemp("tlc")) as tlc:
        started = World(home, tlc)
        yield started
        started.connection.close()
    remove(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.timeout(0)
def test_after_any_sequence_of_faults_every_month_is_absent_or_one_accepted_file(world: World) -> None:
    Months.world = world
    run_state_machine_as_test(
        Months,
        settings=settings(
            max_examples=SEQUENCES,
            stateful_step_count=STEPS,
            # Without shrinking: ten steps are readable, and finding fewer would take minutes.
            phases=[Phase.generate],
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
