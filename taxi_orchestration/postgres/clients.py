"""Who is connected to the embedded server."""

from contextlib import suppress
from pathlib import Path

import psutil

from taxi_orchestration.postgres.connection import connect
from taxi_orchestration.postgres.server import EmbeddedServer

# Programs that start others, by which a person knows these.
_KNOWN = {"dagster", "taxi"}


def list_clients(server: EmbeddedServer) -> list[str]:
    """The programs that are connected, each once, with the ids of their processes where these can be seen."""
    with connect(server.target("postgres"), autocommit=True) as connection:
        clients = connection.execute(
            "select client_port, coalesce(nullif(application_name, ''), 'a program') from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid() order by backend_start"
        ).fetchall()
    processes = _processes_by_port(server.port)
    return list(dict.fromkeys(_describe(processes[port]) if port in processes else name for port, name in clients))


def _processes_by_port(server_port: int) -> dict[int, int]:
    """The processes of this machine that are connected to a port, by their own ports."""
    found = {}
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            # An address is a pair, but for a socket that is not connected.
            match tuple(connection.laddr), tuple(connection.raddr):
                case (_, int(port)), (_, other) if connection.pid and other == server_port:
                    found[port] = connection.pid
    return found


def _describe(pid: int) -> str:
    """A process by the command that a person typed: itself, or the program that started it."""
    try:
        process = psutil.Process(pid)
        for candidate in reversed([process, *process.parents()]):
            words = [Path(word).name for word in candidate.cmdline()]
            if named := [i for i, word in enumerate(words[:3]) if word in _KNOWN]:
                return f"{' '.join(words[named[0] : named[0] + 2])} (process {candidate.pid})"
        return f"{process.name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
