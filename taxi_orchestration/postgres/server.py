"""The embedded PostgreSQL of a TAXI_HOME: created and started on demand, found, stopped, removed.

What belongs here: the server of a home, its data directory, password and databases. What does not: programs
(binaries.py), processes (postmaster.py), settings (server_config.py) and connections (connection.py).

`home/postgres/` holds `server.json` (the record of the server, with its password) and `data/`. Where root's
unprivileged account cannot reach `home`, the data is in a private directory below binaries.PRIVATE_ROOT: `server.json`
names the data, and `home.json` beside the data names the home.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from taxi_orchestration.postgres import binaries, postmaster, server_config
from taxi_orchestration.postgres.binaries import Account, ServerError
from taxi_orchestration.settings import HOME_MODE, PostgresTarget

WAREHOUSE_DATABASE = "taxi"
STORAGE_DATABASE = "dagster"
USER = "taxi"

# Every parameter that libpq would otherwise take from an environment meant for another server.
_PARAMETERS = {
    "channel_binding": "prefer",
    "gssencmode": "disable",
    "hostaddr": postmaster.HOST,
    "load_balance_hosts": "disable",
    "options": "",
    "require_auth": "scram-sha-256",
    "ssl_max_protocol_version": "TLSv1.3",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcertmode": "disable",
    "sslnegotiation": "postgres",
    "target_session_attrs": "any",
}

# The file beside data outside its home: the path of the home.
_OWNER = "home.json"

_PORT_ATTEMPTS = 5
_LOCK_SECONDS = 300

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server: its address, login and data directory."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    data_directory: Path

    def target(self, dbname: str) -> PostgresTarget:
        """Return the target of one database, without TLS, which protects nothing on loopback."""
        return PostgresTarget(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=dbname,
            sslmode="disable",
            parameters=_PARAMETERS,
        )


def ensure_running(home: Path) -> EmbeddedServer:
    """Return the server of `home`; create and start it if needed.

    Any number of processes may call this at the same time. The server outlives the process that started it. Raises
    ServerError.
    """
    home = Path(home).resolve()
    with _translate_errors("Starting", home):
        server = find(home)
        if server is None:
            with _locked(home):
                server = find(home) or _start(home)
        return server


def find(home: Path) -> EmbeddedServer | None:
    """Return the server of `home` if it is ready, else None. Starts nothing and does not wait. Raises ServerError."""
    home = Path(home).resolve()
    with _translate_errors("Finding", home):
        record = _Record.read(home)
        if record is None or not record.complete:
            return None
        running = postmaster.running(record.data_directory)
        if running is None or running.status != "ready":
            return None
        return record.server(running.port)


def stop(home: Path, mode: str = "fast") -> bool:
    """Stop the server of `home`; return False if none ran. Raises ServerError.

    `mode` is pg_ctl's: smart, fast or immediate.
    """
    home = Path(home).resolve()
    with _translate_errors("Stopping", home):
        if _Record.read(home) is None:
            return False
        with _locked(home):
            record = _Record.read(home)
            return record is not None and postmaster.stop(record.data_directory, mode)


def remove(home: Path) -> None:
    """Stop the server of `home` and delete its data, inside or outside `home`. Raises ServerError."""
    home = Path(home).resolve()
    record = _Record.read(home)
    if record is not None:
        stop(home, "immediate")
        # The data may be a link to another disk; rmtree refuses links.
        shutil.rmtree(record.private_directory or record.data_directory.resolve(), ignore_errors=True)


@dataclass(frozen=True)
class _Record:
    """`server.json`, written before initdb runs, so that the password of every data directory is known."""

    id: str
    """Part of the process titles of this server: identifies processes that outlive it."""
    password: str = field(repr=False)
    port: int
    data: str
    """The data directory, relative to `home/postgres` if inside, so that a home can be moved."""
    complete: bool
    """Whether the databases exist."""
    folder: Path

    @property
    def data_directory(self) -> Path:
        return self.folder / self.data

    @property
    def private_directory(self) -> Path | None:
        """The directory below PRIVATE_ROOT that holds the data; None for data inside the home."""
        data = self.data_directory
        return data.parent if binaries.PRIVATE_ROOT in data.parents else None

    @property
    def cluster_name(self) -> str:
        return f"taxi-{self.id}"

    def server(self, port: int) -> EmbeddedServer:
        return EmbeddedServer(postmaster.HOST, port, USER, self.password, self.data_directory)

    @staticmethod
    def read(home: Path) -> _Record | None:
        record = _Record.load(home / "postgres")
        if record is not None:
            record.refuse_copy()
        return record

    def refuse_copy(self) -> None:
        """Raise ServerError if this is the record of a copied home whose data is outside it, and was not copied."""
        if self.private_directory is None:
            return
        try:
            other = Path(json.loads((self.private_directory / _OWNER).read_text())) / "postgres"
        except FileNotFoundError:
            return
        # It is the old path of a home that was moved since, where nothing or another server may be by now.
        record = _Record.load(other)
        if record is not None and record.id == self.id and not other.samefile(self.folder):
            raise ServerError(
                f"{self.folder.parent} is a copy of {other.parent}: both name the PostgreSQL data in "
                f"{self.data_directory}. Remove {self.folder} to start with an empty server here."
            )

    @staticmethod
    def load(folder: Path) -> _Record | None:
        path = folder / "server.json"
        try:
            return _Record(**json.loads(path.read_text()), folder=folder)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise ServerError(
                f"{path}, which holds the password of the PostgreSQL in {folder}, is damaged: {error}. "
                f"Restore it, or remove {folder} to start with an empty server."
            ) from error

    def write(self) -> None:
        known = asdict(self)
        del known["folder"]
        write_private(self.folder / "server.json", json.dumps(known))


def _start(home: Path) -> EmbeddedServer:
    folder = home / "postgres"
    record = _Record.read(home) or _new_record(folder)
    data = record.data_directory
    if record.private_directory:
        _make_private_directory(record.private_directory, home)
    account = binaries.account_for(data if data.exists() else folder)
    programs = binaries.program_directory(account)
    if not data.exists():
        # A data directory that was moved away took its databases along.
        record = replace(record, complete=False)
        record.write()
        _make_data_directory(record, account, programs)
    _check(data, account)
    if postmaster.wait_until_settled(data) is None:
        record = _launch(record, account)
    if not record.complete:
        _create_databases(record)
        record = replace(record, complete=True)
        record.write()
    server = find(home)
    if server is None:
        raise ServerError(f"The PostgreSQL in {data} ended as soon as it was ready. {postmaster.log_tail(data)}")
    return server


def _new_record(folder: Path) -> _Record:
    data = folder / "data"
    if data.exists():
        raise ServerError(
            f"{data} holds a PostgreSQL whose password file {folder / 'server.json'} is gone. "
            f"Restore that file, or remove {folder} to start with an empty server."
        )
    id_ = secrets.token_hex(8)
    is_reachable = binaries.can_enter(binaries.account_for(folder), folder)
    record = _Record(
        id=id_,
        password=secrets.token_urlsafe(24),
        port=postmaster.free_port(),
        # By id and not by path: the path of a moved home may become that of another.
        data="data" if is_reachable else os.fspath(binaries.PRIVATE_ROOT / id_ / "data"),
        complete=False,
        folder=folder,
    )
    record.write()
    return record


def _make_private_directory(directory: Path, home: Path) -> None:
    """Make the directory of data outside `home`, which the server's account may enter, and record `home` there."""
    binaries.make_private_root()
    directory.mkdir(exist_ok=True)
    # The mode of mkdir would be cut by the umask.
    directory.chmod(0o711)
    _write(directory / _OWNER, json.dumps(os.fspath(home)), None)


def _make_data_directory(record: _Record, account: Account | None, programs: Path) -> None:
    """Run initdb in a temporary directory and rename the result, so that a data directory is always complete."""
    data = record.data_directory
    for leftover in data.parent.glob("initdb-*"):
        # The initdb of a killed process may still write here; the next start removes the rest.
        shutil.rmtree(leftover, ignore_errors=True)
    _logger.info("Making a PostgreSQL data directory in %s", data)
    staging = Path(tempfile.mkdtemp(dir=data.parent, prefix="initdb-"))  # 0700
    try:
        if account:
            os.chown(staging, account.uid, account.gid)
        password_file = staging / "password"
        _write(password_file, record.password, account)
        made = staging / "data"
        command: list[str | Path] = [programs / "initdb", "--pgdata", made, "--username", USER]
        command += ["--pwfile", password_file, "--auth", "scram-sha-256", "--encoding", "UTF8"]
        # The same collation on every machine, whatever locales are installed.
        command += ["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-instructions"]
        result = binaries.run(command, account)
        if result.returncode != 0:
            output = postmaster.last_lines(result.stderr or result.stdout)
            raise ServerError(
                f"Making a PostgreSQL data directory in {data} failed:\n{output}\n{postmaster.advice(output, data)}"
            )
        with (made / "postgresql.conf").open("a") as file:
            file.write("\ninclude = 'taxi.conf'\n")
        made.rename(data)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(data: Path, account: Account | None) -> None:
    if not binaries.can_enter(account, data):
        raise ServerError(
            f"uid {account.uid if account else os.getuid()}, the account of this PostgreSQL, cannot enter {data} any "
            "more. Make every directory above it searchable again (chmod a+x)."
        )
    version_file = data / "PG_VERSION"
    found = version_file.read_text().strip() if version_file.exists() else "(unknown version)"
    if found != str(binaries.MAJOR):
        raise ServerError(
            f"{data} is a data directory of PostgreSQL {found}, and this is PostgreSQL {binaries.MAJOR}. Go back to "
            "the version of taxi that made it, or move the directory away to start with an empty server."
        )


def _launch(record: _Record, account: Account | None) -> _Record:
    """Start the server, on another port if another program has taken the recorded one."""
    data = record.data_directory
    for pid in postmaster.end_orphans(record.cluster_name):
        _logger.warning("Killed process %d, orphaned when the PostgreSQL in %s was killed", pid, data)
    for _ in range(_PORT_ATTEMPTS):
        if not postmaster.is_free(record.port):
            port = postmaster.free_port()
            _logger.warning(
                "Port %d is taken by another process: the PostgreSQL in %s moves to port %d", record.port, data, port
            )
            record = replace(record, port=port)
            record.write()
        _write(data / "taxi.conf", server_config.render(record.port, record.cluster_name), account)
        _write(data / "pg_hba.conf", server_config.HBA, account)
        try:
            postmaster.launch(data, record.port)
        except postmaster.PortTakenError:
            continue  # taken between the check and the start
        return record
    raise ServerError(
        f"Starting the PostgreSQL in {data} failed: its port was taken {_PORT_ATTEMPTS} times, last {record.port}. "
        f"Try again. {postmaster.log_tail(data)}"
    )


def _create_databases(record: _Record) -> None:
    # Not at the top: importing psycopg takes longer than find().
    import psycopg
    from psycopg import sql

    from taxi_orchestration.postgres.connection import WarehouseError, connect

    # After an interrupted start the recorded port can differ from the running one.
    running = postmaster.running(record.data_directory)
    server = record.server(running.port if running else record.port)
    try:
        with connect(server.target("postgres"), autocommit=True) as connection:
            present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in (WAREHOUSE_DATABASE, STORAGE_DATABASE):
                if name not in present:
                    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg.Error, WarehouseError) as error:
        raise ServerError(
            f"Making the databases of the PostgreSQL in {server.data_directory} (port {server.port}) failed: {error}. "
            f"{postmaster.log_tail(server.data_directory)}"
        ) from error


def write_private(path: Path, text: str) -> None:
    """Replace a file by one that only the owner of its directory can read."""
    owner = path.parent.stat()
    _write(path, text, Account(owner.st_uid, owner.st_gid))


def _write(path: Path, text: str, owner: Account | None) -> None:
    """Replace a file atomically by one that only `owner` can read."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            if owner and os.geteuid() == 0:
                os.fchown(descriptor, owner.uid, owner.gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Let one process at a time start or stop the server of `home`."""
    # Not at the top: find() needs no lock.
    from filelock import FileLock, Timeout

    folder = home / "postgres"
    home.mkdir(HOME_MODE, parents=True, exist_ok=True)
    folder.mkdir(HOME_MODE, exist_ok=True)
    try:
        with FileLock(folder / "lock", _LOCK_SECONDS, mode=0o600):
            yield
    except Timeout as error:
        raise ServerError(
            f"Another process has held {folder / 'lock'} for {_LOCK_SECONDS} s: it is starting or stopping the "
            f"PostgreSQL of {home}. Wait for it, or find it with: fuser {folder / 'lock'}"
        ) from error


@contextmanager
def _translate_errors(doing: str, home: Path) -> Iterator[None]:
    """Turn an OSError into a ServerError that names the operation, the home and the next step."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                advice = f"Give yourself access, or set TAXI_HOME (now {home}) to another directory."
            case errno.ENOSPC | errno.EDQUOT:
                advice = "Free some space on that disk and try again."
            case _:
                advice = f"Fix that, or set TAXI_HOME (now {home}) to another directory."
        raise ServerError(f"{doing} the PostgreSQL of {home} failed: {error}. {advice}") from error
