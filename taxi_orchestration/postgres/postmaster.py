"""The server process of the embedded PostgreSQL: start, identification, stop.

What belongs here: processes, ports and the server's log. What does not: data directories and passwords.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from taxi_orchestration.postgres import binaries
from taxi_orchestration.postgres.binaries import ServerError

HOST = "127.0.0.1"
# Below the ephemeral ports of Linux and macOS: no outgoing connection takes the port between two starts.
_PORTS = range(15432, 32768)
# Replaying the WAL after a crash takes up to minutes.
_START_SECONDS = 240
_STOP_SECONDS = 120
SHARED_MEMORY_ADVICE = (
    "/dev/shm, through which PostgreSQL's processes share memory, is full, too small or read-only: enlarge it "  # noqa: S108 - the place
    "(mount -o remount,rw,size=256M /dev/shm; docker run --shm-size=256m)"
)
# The names of PostgreSQL's segments in /dev/shm, which messages in every language contain.
_SHARED_MEMORY = re.compile(r"/PostgreSQL\.\d+")
# Output of the server before its log collector starts.
_START_LOG = "start.log"
_LINES_OF_LOG = 15


class PortTakenError(Exception):
    """Another program listens on the port of the server."""


class Postmaster(NamedTuple):
    """The running server of a data directory, as its postmaster.pid describes it."""

    pid: int
    port: int
    status: str


def running(data: Path) -> Postmaster | None:
    """Return the running server of `data`; after a crash postmaster.pid can name an unrelated process."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        pid, port = int(lines[0]), int(lines[3])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    if not _serves(pid, data):
        return None
    return Postmaster(pid, port, lines[7].strip() if len(lines) > 7 else "starting")


def launch(data: Path, port: int) -> None:
    """Start the server of `data` and wait until it is ready; the server outlives this process.

    Raises PortTakenError where another program listens on `port`, the one that the server is configured for.
    """
    _remove_stale_pid_file(data)
    _remove_old_logs(data)
    # pg_ctl double-quotes its -D for a shell, which a $ or a quote in the path breaks.
    options = f"-D {shlex.quote(os.fspath(data))}"
    # The log's path is relative for the same reason.
    started = _pg_ctl(data, "start", "--log", _START_LOG, "--timeout", str(_START_SECONDS), "--options", options)
    if started.returncode == 0:
        return
    if running(data) is not None:
        raise _not_ready_error(data)
    if not is_free(port):
        raise PortTakenError
    tail = log_tail(data)
    raise ServerError(f"Starting the PostgreSQL in {data} failed. {tail}\n{advice(tail, data)}")


def wait_until_settled(data: Path) -> Postmaster | None:
    """Wait while the server of `data` is starting or stopping; return None if no server runs then."""
    if not _wait(lambda: (server := running(data)) is None or server.status == "ready", _START_SECONDS):
        raise _not_ready_error(data)
    return running(data)


def stop(data: Path, mode: str) -> bool:
    """Stop the server of `data` and wait for its end; return False if none runs. `mode` is pg_ctl's."""
    if running(data) is None:
        return False
    stopped = _pg_ctl(data, "stop", "--mode", mode, "--timeout", str(_STOP_SECONDS))
    if stopped.returncode != 0 and running(data) is not None:
        raise ServerError(
            f"Stopping the PostgreSQL in {data} failed: {last_lines(stopped.stderr)}\n"
            f"Try again: writing the data to a slow disk can take minutes. {log_tail(data)}"
        )
    return True


def _pg_ctl(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    account = binaries.account_for(data)
    program = binaries.program_directory(account) / "pg_ctl"
    return binaries.run([program, *arguments], account, directory=data, variables={"PGDATA": os.fspath(data)})


def _not_ready_error(data: Path) -> ServerError:
    return ServerError(
        f"The PostgreSQL in {data} was not ready after {_START_SECONDS} s; after a crash it may still be replaying its "
        f"log. Try again in some minutes. {log_tail(data)}"
    )


def end_orphans(cluster_name: str) -> list[int]:
    """Kill the processes that outlived a killed server, and return their ids.

    A busy backend can run on for minutes, and PostgreSQL refuses to start until it ends. Killing backends is safe: the
    memory that they share is lost with their server.
    """
    import psutil  # not at the top: importing it takes longer than finding a running server

    orphans = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            is_ours = " ".join(_command_line(process.pid)).startswith(f"postgres: {cluster_name}:")
            # A process whose server runs is no orphan: it belongs to the home that this home is a copy of.
            if is_ours and "-D" not in _command_line(process.ppid()):
                process.kill()
                orphans.append(process)
    _wait(lambda: all(has_ended(process.pid) for process in orphans), 10)
    return [process.pid for process in orphans]


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; a zombie has, and stays a zombie in a container without an init.

    The command line is no evidence: an ending process loses it milliseconds before it becomes a zombie.
    """
    import psutil  # as in end_orphans

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    """Return whether no program listens on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a random port that no program listens on."""
    candidates = random.SystemRandom().sample(_PORTS, 100)
    port = next(filter(is_free, candidates), None)
    if port is None:
        raise ServerError(
            f"No free port on {HOST}: {len(candidates)} between {_PORTS[0]} and {_PORTS[-1]} were tried. "
            "Close programs that listen there, or set PG_HOST to use another server."
        )
    return port


def log_tail(data: Path) -> str:
    """Return the last lines of the server's logs, for an error message."""
    logs = [data / _START_LOG, *sorted(data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)[-1:]]
    lines = "\n".join(path.read_text(errors="replace") for path in logs if path.exists())
    return f"The end of its log:\n{last_lines(lines)}"


def last_lines(text: str) -> str:
    """Return the last lines of a program's output."""
    return "\n".join(text.strip().splitlines()[-_LINES_OF_LOG:]) or "(empty)"


def advice(output: str, directory: Path) -> str:
    """Return what to do about the failure that a PostgreSQL program printed."""
    if names_shared_memory(output):
        return f"{SHARED_MEMORY_ADVICE} and try again."
    if "No space left on device" in output:
        return f"Free some space on the disk of {directory} and try again."
    if "could not look up effective user ID" in output:
        return "PostgreSQL needs a user with a name. Add this user to /etc/passwd, or set PG_HOST."
    return "Fix the error above, then try again."


def names_shared_memory(message: str) -> bool:
    """Return whether a message of PostgreSQL is about its shared memory, not about a file."""
    return bool(_SHARED_MEMORY.search(message))


def _serves(pid: int, data: Path) -> bool:
    match _command_line(pid):
        case [_, "-D", directory, *_]:
            if directory == os.fspath(data):
                return True
        case _:
            return False
    # A home can be moved while its server runs: the working directory of the server follows.
    if sys.platform != "linux":
        import psutil  # as in end_orphans

        try:
            return os.path.samefile(psutil.Process(pid).cwd(), data)
        except (psutil.Error, OSError):
            return False
    # The check runs as the server's account: root without CAP_SYS_PTRACE, as in a container, may not read the link.
    return binaries.run(["test", f"/proc/{pid}/cwd", "-ef", data], binaries.account_for(data)).returncode == 0


def _command_line(pid: int) -> list[str]:
    """Return the arguments of a process; none if it has ended, is a zombie or is hidden from this user."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return []
    import psutil  # as in end_orphans

    try:
        return psutil.Process(pid).cmdline()
    except psutil.Error:
        return []


def _remove_stale_pid_file(data: Path) -> None:
    """Remove a postmaster.pid that names an unrelated process: PostgreSQL would refuse to start."""
    import psutil  # as in end_orphans

    path = data / "postmaster.pid"
    if path.exists() and running(data) is None:
        first_line = path.read_text().partition("\n")[0].strip()
        # A zombie exists here, as it does for PostgreSQL.
        if first_line.isdecimal() and psutil.pid_exists(int(first_line)):
            path.unlink()


def _remove_old_logs(data: Path) -> None:
    # A server that never runs past midnight never rotates its logs, which would grow without limit.
    (data / _START_LOG).unlink(missing_ok=True)
    for path in data.glob("log/*.log"):
        if path.stat().st_mtime < time.time() - 6 * 86_400:
            path.unlink()


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
