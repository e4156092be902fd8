"""Subprocesses of a test: `taxi` as a user starts it, and processes that can be killed."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from taxi_orchestration.cli.programs import program_command

(TAXI,) = program_command("taxi")
# Prefix of a command that must ignore interrupts (SIGINT), as background commands of a shell script do.
IN_THE_BACKGROUND = ("/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh")
Done = subprocess.CompletedProcess[str]


def taxi(*arguments: str, cwd: str | Path | None = None, stdin: str | None = None, **variables: str) -> Done:
    """Run `taxi` with these arguments, and return its result. `variables` extend the environment of the test."""
    return subprocess.run(
        [TAXI, *arguments],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def delete_outer_variables() -> None:
    """Delete the user's settings from the environment of this process."""
    for name in [name for name in os.environ if name.startswith(("PG_", "TAXI_", "DAGSTER_", "TLC_", "DBT_"))]:
        del os.environ[name]


class Programs:
    """The programs that a test started, with its environment. `end` kills all processes that are left of them."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program in a new session, and return its process."""
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
        """Start `taxi` with these arguments, and return its process."""
        return self.start(TAXI, *arguments)

    def end(self) -> None:
        for program in self.started:
            for process in process_tree(program.pid):
                kill_9(process.pid)
            # A process that outlived its parent is no descendant any more, but still in the session of the program.
            for process in psutil.process_iter():
                with suppress(ProcessLookupError, PermissionError):
                    if os.getsid(process.pid) == program.pid:
                        kill_9(process.pid)
            program.wait()
            if program.stdout:
                program.stdout.close()


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants, or an empty list if the process has ended."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_9(pid: int) -> None:
    """Send SIGKILL; a process that has already ended is ignored."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
