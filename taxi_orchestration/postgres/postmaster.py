"""The process of the embedded PostgreSQL: start it detached, recognise it, wait for it, stop it.

What belongs here: processes, ports and the server's log. What does not: which server, with which password and where.
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
# Below those that Linux and macOS hand to outgoing connections, so that none of these takes ours between two starts.
_PORTS = range(15432, 32768)
# Replaying the WAL after a crash takes a while; a server that fails says so at once.
_START_SECONDS = 240
_STOP_SECONDS = 120
SHARED_MEMORY_ADVICE = (
    "/dev/shm, through which PostgreSQL's processes share memory, is full, too small or read-only: enlarge it "  # noqa: S108 - the place
    "(mount -o remount,rw,size=256M /dev/shm; docker run --shm-size=256m)"
)
# The names of PostgreSQL's segments in /dev/shm, which its messages quote in every language.
_SHARED_MEMORY = re.compile(r"/PostgreSQL\.\d+")
# What the server prints before its log collector takes over.
_START_LOG = "start.log"


class PortTakenError(Exception):
    """The server could not listen on its port."""


class Postmaster(NamedTuple):
    """What the running server of a data directory says of itself in postmaster.pid."""

    pid: int
    port: int
    status: str


def running(data: Path) -> Postmaster | None:
    """The living server of `data`; after a crash or a reboot postmaster.pid can name somebody else's process."""
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
    # pg_ctl puts -D and paths between double quotes for a shell, where a $ or a quote in the path breaks them.
    options = f"-D {shlex.quote(os.fspath(data))}"
    # Relative to the data directory, for the same reason.
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
    """Wait while the server of `data`, which another process started or stops, is in between; None when it ended."""
    if not _wait(lambda: (server := running(data)) is None or server.status == "ready", _START_SECONDS):
        raise _not_ready_error(data)
    return running(data)


def stop(data: Path, mode: str) -> bool:
    """Stop the server of `data` and wait for its end; False when none runs. Modes as in pg_ctl."""
    if running(data) is None:
        return False
    stopped = _pg_ctl(data, "stop", "--mode", mode, "--timeout", str(_STOP_SECONDS))
    if stopped.returncode != 0 and running(data) is not None:
        raise ServerError(
            f"Stopping the PostgreSQL in {data} failed: {last_lines(stopped.stderr)}\n"
            f"Try again, or stop it with mode 'immediate'. {log_tail(data)}"
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
    """End the processes that outlived a killed server, and say which they were.

    A busy one can go on for minutes, and PostgreSQL refuses to start as long as it does. Killing them does the data no
    harm: what they have in memory is lost with their server.
    """
    import psutil  # not at the top: importing it takes longer than finding a running server

    orphans = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            is_ours = " ".join(_command_line(process.pid)).startswith(f"postgres: {cluster_name}:")
            # One whose server lives is no orphan: it is that of a home which this one is a copy of.
            if is_ours and "-D" not in _command_line(process.ppid()):
                process.kill()
                orphans.append(process)
    _wait(lambda: all(has_ended(process.pid) for process in orphans), 10)
    return [process.pid for process in orphans]


def has_ended(pid: int) -> bool:
    """Whether a process has ended; a zombie has, and stays one where nothing waits for it, as in many containers.

    The command line does not tell: an ending process loses it some milliseconds before it is a zombie.
    """
    import psutil  # as in end_orphans

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def is_free(port: int) -> bool:
    """Whether a server could listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that a server could listen on."""
    candidates = random.SystemRandom().sample(_PORTS, 100)
    port = next(filter(is_free, candidates), None)
    if port is None:
        raise ServerError(
            f"No free port on {HOST}: {len(candidates)} between {_PORTS[0]} and {_PORTS[-1]} were tried. "
            "Close programs that listen there, or set PG_HOST to use a server of your own."
        )
    return port


def log_tail(data: Path) -> str:
    """The end of what the server said at its start and since, for an error message."""
    logs = [data / _START_LOG, *sorted(data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)[-1:]]
    said = "\n".join(path.read_text(errors="replace") for path in logs if path.exists())
    return f"The end of its log:\n{last_lines(said)}"


def last_lines(text: str, count: int = 15) -> str:
    """The last lines of what a program said."""
    return "\n".join(text.strip().splitlines()[-count:]) or "(nothing)"


def advice(said: str, directory: Path) -> str:
    """What to do about a failure that one of PostgreSQL's programs has described."""
    if names_shared_memory(said):
        return f"{SHARED_MEMORY_ADVICE} and try again."
    if "No space left on device" in said:
        return f"Free some space on the disk of {directory} and try again."
    if "could not look up effective user ID" in said:
        return "PostgreSQL runs only as a user that has a name: add this one to /etc/passwd, or set PG_HOST."
    return "Put right what it says and try again."


def names_shared_memory(said: str) -> bool:
    """Whether a message of PostgreSQL's is about memory that its processes share, and not about a file."""
    return bool(_SHARED_MEMORY.search(said))


def _serves(pid: int, data: Path) -> bool:
    match _command_line(pid):
        case [_, "-D", directory, *_]:
            if directory == os.fspath(data):
                return True
        case _:
            return False
    # The server of a home that was moved while it ran: a server works in its data directory, wherever that goes. Asked
    # as its own account, because root without CAP_SYS_PTRACE, as in a container, may not look.
    return binaries.run(["test", f"/proc/{pid}/cwd", "-ef", data], binaries.account_for(data)).returncode == 0


def _command_line(pid: int) -> list[str]:
    """The arguments of a process; empty when it is gone, an unreaped zombie, or hidden as another user's may be."""
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
    """Remove a postmaster.pid that names a living process which is no server of `data`: PostgreSQL would believe it."""
    import psutil  # as in end_orphans

    path = data / "postmaster.pid"
    if path.exists() and running(data) is None:
        first_line = path.read_text().partition("\n")[0].strip()
        # A zombie counts as living here, as it does for PostgreSQL.
        if first_line.isdecimal() and psutil.pid_exists(int(first_line)):
            path.unlink()


def _remove_old_logs(data: Path) -> None:
    # A server that never runs over midnight never rotates: without this its daily files would grow from week to week.
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
