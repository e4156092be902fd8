"""The programs that are connected to the embedded server."""

from contextlib import suppress
from pathlib import Path

import psutil

from taxi_orchestration.postgres.connection import connect, translate_errors
from taxi_orchestration.postgres.server import EmbeddedServer

# The commands that users type; they start the programs that connect.
_KNOWN = {"dagster", "taxi"}


def list_clients(server: EmbeddedServer) -> list[str]:
    """Return the connected programs without duplicates, with process ids where this account may see them.

    Raises WarehouseError.
    """
    target = server.target("postgres")
    with translate_errors("Listing the connected programs", target), connect(target, autocommit=True) as connection:
        clients = connection.execute(
            "select client_port, coalesce(nullif(application_name, ''), 'a program') from pg_stat_activity "
            "where backend_type = 'client backend' and pid <> pg_backend_pid() order by backend_start"
        ).fetchall()
    processes = _processes_by_port(server.port)
    return list(dict.fromkeys(_describe(processes[port]) if port in processes else name for port, name in clients))


def _processes_by_port(server_port: int) -> dict[int, int]:
    """Return the local processes that are connected to `server_port`, by their client ports."""
    found = {}
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections(kind="tcp"):
            # Only a connected socket has a pair as its remote address.
            match tuple(connection.laddr), tuple(connection.raddr):
                case (_, int(port)), (_, other) if connection.pid and other == server_port:
                    found[port] = connection.pid
    return found


def _describe(pid: int) -> str:
    """Describe a process by the command that the user typed: the process itself or an ancestor."""
    try:
        process = psutil.Process(pid)
        for candidate in reversed([process, *process.parents()]):
            words = [Path(word).name for word in candidate.cmdline()]
            if named := [i for i, word in enumerate(words[:3]) if word in _KNOWN]:
                return f"{' '.join(words[named[0] : named[0] + 2])} (process {candidate.pid})"
        return f"{process.name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"
