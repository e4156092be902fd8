"""Programs of their own: `taxi` as a person starts it, processes that can be killed."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil

from taxi_orchestration.cli.programs import program_command

(TAXI,) = program_command("taxi")
# Before a command: starts it as a script does what has an & behind it, with interrupts ignored.
IN_THE_BACKGROUND = ("/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh")
Done = subprocess.CompletedProcess[str]


def taxi(*arguments: str, cwd: str | Path | None = None, stdin: str | None = None, **variables: str) -> Done:
    """Run `taxi` with these arguments, and these variables beside the environment of the test."""
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
        return self.start(TAXI, *arguments)

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
