"""The process of the embedded PostgreSQL: start it detached, recognise it, wait for it, stop it.

What belongs here: processes, ports and the server's log. What does not: which server, with which password and where.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from taxi_orchestration.postgres import binaries
from taxi_orchestration.postgres.binaries import Account, ServerError

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
_STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


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


def launch(data: Path, port: int, programs: Path, account: Account | None) -> None:
    """Start the server of `data` and wait until it is ready; it outlives this process.

    Raises PortTakenError where somebody else listens on the port that it is configured for.
    """
    _forget_foreign_process(data)
    _remove_old_logs(data)
    # A new session, so that neither Ctrl-C nor the end of the terminal reaches it; a child of init, so that it is no
    # zombie of ours; no stream of ours, so that nobody who reads our output to its end waits for the server's end.
    script = '"$1" -D "$2" >"$3" 2>&1 </dev/null & echo $!'
    command: list[str | Path] = ["/bin/sh", "-c", script, "sh"]
    command += [programs / "postgres", data, data / "start.log"]
    started = binaries.run(command, account, new_session=True)
    if started.returncode != 0:
        raise ServerError(f"Starting the PostgreSQL in {data} failed: {started.stderr.strip()}")
    try:
        wait_until_ready(data, int(started.stdout))
    except ServerError:
        if not is_free(port):
            raise PortTakenError from None
        raise


def wait_until_ready(data: Path, pid: int) -> None:
    """Wait for the server of `data`, started as process `pid`."""

    def is_ready() -> bool:
        server = running(data)
        return server is not None and server.status == "ready"

    if not _wait(lambda: is_ready() or has_ended(pid), _START_SECONDS):
        raise ServerError(
            f"The PostgreSQL in {data} (process {pid}) was not ready after {_START_SECONDS} s; after a crash it may "
            f"still be replaying its log. Try again in some minutes. {log_tail(data)}"
        )
    if not is_ready():
        time.sleep(0.2)  # the server's log collector writes down its last words after its end
        tail = log_tail(data)
        raise ServerError(f"Starting the PostgreSQL in {data} failed. {tail}\n{advice(tail, data)}")


def wait_until_gone(data: Path, pid: int) -> None:
    """Wait for the end of a server that has been told to stop."""
    if not _wait(lambda: has_ended(pid), _STOP_SECONDS):
        raise ServerError(
            f"The PostgreSQL in {data} (process {pid}) did not stop within {_STOP_SECONDS} s. "
            f"Try again, or stop it with mode 'immediate'. {log_tail(data)}"
        )


def end(data: Path, mode: str) -> bool:
    """Stop the server of `data` and wait for its end; False when none runs. Modes as in pg_ctl."""
    if mode not in _STOP_SIGNALS:
        raise ValueError(f"mode must be one of {', '.join(_STOP_SIGNALS)}, not {mode!r}")
    server = running(data)
    if server is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(server.pid, _STOP_SIGNALS[mode])
    wait_until_gone(data, server.pid)
    return True


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
    logs = [data / "start.log", *sorted(data.glob("log/*.log"), key=lambda path: path.stat().st_mtime)[-1:]]
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


def _forget_foreign_process(data: Path) -> None:
    """Remove a postmaster.pid that names a living process which is no server of `data`: PostgreSQL would believe it."""
    path = data / "postmaster.pid"
    if path.exists() and running(data) is None:
        first_line = path.read_text().partition("\n")[0].strip()
        if first_line.isdecimal() and _exists(int(first_line)):
            path.unlink()


def _exists(pid: int) -> bool:
    """Whether PostgreSQL would take the process for alive, as it takes a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_old_logs(data: Path) -> None:
    # A server that never runs over midnight never rotates: without this its daily files would grow from week to week.
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
