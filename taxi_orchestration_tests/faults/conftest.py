"""What the tests of faults share: `taxi` in processes that can be killed, and a stranger who holds locks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
import psycopg
import pytest
from psycopg import sql

from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration_tests.integration.test_server import wait_for

__all__ = ["Programs", "backfill", "holding", "kill_9", "wait_for", "waiting_for"]

TAXI = [sys.executable, "-c", "from taxi_orchestration.cli.commands import main; main()"]


class Programs:
    """Programs that a test started, with the environment of the test; whatever is left of them is killed at its end."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program in a session of its own."""
        self.started.append(
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )
        return self.started[-1]

    def taxi(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `taxi` with these arguments."""
        return self.start(*TAXI, *arguments)

    def end(self) -> None:
        for program in self.started:
            for process in family(program.pid):
                kill_9(process.pid)
            # Those that outlived their parent are still of the session that the program was started in.
            for process in psutil.process_iter():
                with suppress(ProcessLookupError, PermissionError):
                    if os.getsid(process.pid) == program.pid:
                        kill_9(process.pid)
            program.wait()
            if program.stdout:
                program.stdout.close()


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, as far as they live."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_9(pid: int) -> None:
    """Without a word."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts programs."""
    made = Programs()
    yield made
    made.end()


@pytest.fixture
def backfill() -> Callable[..., int]:
    """`taxi backfill` in this process, which has all imports behind it; returns the exit code."""
    from taxi_orchestration.cli.commands import main

    def run(*arguments: str) -> int:
        try:
            main(["backfill", *arguments], standalone_mode=False)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@contextmanager
def holding(target: PostgresTarget, schema: str, table: str, mode: str = "exclusive") -> Iterator[psycopg.Connection]:
    """A stranger's transaction that holds a lock on a table, and so stops whoever writes to it where they are."""
    with psycopg.connect(target.url(), application_name="stranger") as connection:
        connection.execute(sql.SQL("lock table {} in {} mode").format(sql.Identifier(schema, table), sql.SQL(mode)))
        yield connection
        connection.rollback()


def waiting_for(target: PostgresTarget, schema: str, table: str) -> bool:
    """Whether somebody waits for a lock on a table."""
    with psycopg.connect(target.url()) as connection:
        row = connection.execute(
            "select exists (select from pg_locks where not granted and relation = to_regclass(%s))",
            [f"{schema}.{table}"],
        ).fetchone()
    return bool(row and row[0])


def copying(target: PostgresTarget, schema: str) -> int | None:
    """The server process of a COPY that is on its way into a table of the schema."""
    with psycopg.connect(target.url()) as connection:
        row = connection.execute(
            """
            select p.pid from pg_stat_progress_copy p join pg_class c on c.oid = p.relid
            where c.relnamespace = to_regnamespace(%s) and p.tuples_processed > 0
            """,
            [schema],
        ).fetchone()
    return row[0] if row else None


def until(look: Callable[[], object], seconds: float = 60, pause: float = 0.02) -> object:
    """What `look` says as soon as it says anything."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
    return found
