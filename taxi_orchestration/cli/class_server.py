"""The processes that serve a class: a code server for each student, a webserver, a daemon, and a read-only webserver.

Each is a program of Dagster. A program that ends is started again, so that a dying code server affects its student
shortly and nobody else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from taxi_orchestration.cli.classroom import WORKSPACE, correct_ports, count_students, list_students
from taxi_orchestration.cli.dev import claim, dagster_variables, find_running, make_dagster_home
from taxi_orchestration.cli.programs import ProgramError, program_command
from taxi_orchestration.cli.terminal import print_error, print_note
from taxi_orchestration.dbt.runner import DbtError, prepared_project
from taxi_orchestration.instance.dagster_names import MODULE
from taxi_orchestration.postgres.postmaster import HOST, is_free
from taxi_orchestration.settings import Settings, SettingsError, dagster_home

_POLL_SECONDS = 0.5
# The pause before a restart, doubled each time: with unusable settings a program ends every time.
_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5.0, 300.0
# What serves a class, each started by Python.
_PROGRAMS = {"dagster", "dagster-webserver", "dagster-daemon"}
_END_SECONDS = 30.0


@dataclass
class Part:
    """A program that is kept running: its command, environment and log file."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = _PAUSE_SECONDS

    def keep(self) -> None:
        """Start the program if it does not run."""
        if self.process and self.process.poll() is None:
            return
        if self.process and time.monotonic() - self.started < self.pause:
            return
        if self.process:
            ran_long = time.monotonic() - self.started > _LONGEST_PAUSE_SECONDS
            self.pause = _PAUSE_SECONDS if ran_long else min(self.pause * 2, _LONGEST_PAUSE_SECONDS)
            print_error(
                f"{self.name} ended with exit code {self.process.returncode} and is started again. See {self.log}."
            )
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the parent alone, which ends all programs.
            self.process = subprocess.Popen(  # noqa: S603 - Dagster's own
                self.command,
                env=self.environment,
                cwd=self.environment["DAGSTER_HOME"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def end(self) -> None:
        """Send SIGTERM to the program and to the runs that it executes."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)

    def wait(self, deadline: float) -> None:
        """Wait for the end of the program until `deadline`, then kill its process group."""
        if self.process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(deadline - time.monotonic(), 0.1))
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def serve(settings: Settings, port: int, read_only_port: int | None) -> None:
    """Serve the class until Ctrl-C.

    Raises SettingsError if the class has no student, and ProgramError if its UI runs already or a port is taken.
    """
    if not list_students(settings):
        raise SettingsError("The class has no student yet: taxi class add ada bob.")
    if find_running(settings) is None:
        end_leftovers(settings)
    # The lock lasts as long as this file is open.
    _file = claim(settings, port, "taxi class serve --port ")
    if read_only_port and not is_free(read_only_port):
        raise ProgramError(f"Port {read_only_port} is taken by another program. Choose another: --read-only-port.")
    # Opened once before the programs start: a dozen processes creating Dagster's tables would block each other.
    from taxi_orchestration.instance.opening import open_instance

    with open_instance() as instance:
        instance.get_runs(limit=1)
    if moved_to := correct_ports(settings):
        print_note(f"The embedded PostgreSQL has moved to port {moved_to}. Give the students their settings.env again.")
    _prepare_projects(settings)
    parts = list_parts(settings, port, read_only_port)
    print_note(f"The Dagster UI of the class starts at http://{HOST}:{port}. Ctrl-C stops it.")
    if read_only_port:
        print_note(f"The read-only UI is at http://{HOST}:{read_only_port}.")
    with _stopped_by_signals() as stopped:
        try:
            while not stopped:
                for part in parts:
                    part.keep()
                time.sleep(_POLL_SECONDS)
        finally:
            for part in parts:
                part.end()
            deadline = time.monotonic() + _END_SECONDS
            for part in parts:
                part.wait(deadline)


def end_leftovers(settings: Settings) -> None:
    """End the orphaned processes of a killed `taxi class serve` of this home, which hold ports and sockets."""
    paths = {str(settings.taxi_home / "class" / WORKSPACE), *(str(each.socket) for each in list_students(settings))}
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            # An editor may have the workspace open too.
            is_ours = any(Path(word).name in _PROGRAMS for word in command[:3])
            if is_ours and paths.intersection(command):
                process.terminate()
                left.append(process)
    for process in psutil.wait_procs(left, _END_SECONDS)[1]:
        with suppress(psutil.Error):
            process.kill()


def _prepare_projects(settings: Settings) -> None:
    """Parse the dbt project for each student in one short-lived process: each code server would keep 100 MiB."""
    of_students = []
    for student in list_students(settings):
        with suppress(SettingsError):
            # The code server reports unusable settings, and parses the project of other code itself.
            if "PYTHONPATH" not in student.variables():
                of_students.append(student.settings(settings))
    print_note(f"Preparing the dbt project of {count_students(len(of_students))}.")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, suppress(DbtError):
        list(pool.map(prepared_project, of_students))


def list_parts(settings: Settings, port: int, read_only_port: int | None) -> list[Part]:
    """Return the programs that serve the class."""
    home = dagster_home() or make_dagster_home(settings)
    shared = dagster_variables(settings, home)
    class_environment = {**os.environ, **shared}
    folder = settings.taxi_home / "class"
    parts = []
    for student in list_students(settings):
        # The code server keeps answering if the code cannot be loaded, and the UI can reload it.
        command = program_command(
            "dagster", "code-server", "start", "--module-name", MODULE, "--socket", str(student.socket)
        )
        command += ["--location-name", student.name, "--log-level", "error"]
        student.log.unlink(missing_ok=True)
        student.socket.unlink(missing_ok=True)
        environment = {**student.environment(class_environment), **shared}
        parts.append(Part(f"The code server of {student.name}", command, environment, student.log))
    workspace = ["--workspace", str(folder / WORKSPACE)]
    page = program_command("dagster-webserver", *workspace, "--host", HOST, "--dagster-log-level", "error")
    log = folder / "webserver.log"
    parts.append(Part("The webserver", [*page, "--port", str(port)], class_environment, log))
    if read_only_port:
        only = [*page, "--port", str(read_only_port), "--read-only"]
        parts.append(Part("The read-only webserver", only, class_environment, folder / "read_only_webserver.log"))
    daemon = program_command("dagster-daemon", "run", *workspace, "--log-level", "error")
    parts.append(Part("The daemon", daemon, class_environment, folder / "daemon.log"))
    return parts


@contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM during the block instead of their default actions."""
    seen: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
