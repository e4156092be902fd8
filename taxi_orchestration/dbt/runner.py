"""dbt in this process: its environment, its parsed project, an invocation of it.

dbt's documented programmatic entry saves a process, a second import of dbt and a second parse for every invocation.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from taxi_orchestration.postgres.session import transaction_settings
from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY, Settings, make_home
from taxi_orchestration.warehouse.dbt_tables import one_build
from taxi_orchestration.warehouse.warehouse import Warehouse, describe_warehouse

MAX_THREADS = 4
KEPT_SECONDS = 7 * 24 * 3600
# What changes the schema, of dbt's commands.
BUILDING = frozenset({"build", "clone", "retry", "run", "run-operation", "seed", "snapshot"})
FAILED_STATUSES = ("error", "fail", "runtime error")

# What libpq and PostgreSQL say when a connection is cut or the server goes down: dbt passes on nothing but the text.
_CONNECTION_LOST = re.compile(
    r"server closed the connection|terminating connection|connection already closed|connection .*(refused|failed)"
    r"|connection (reset|timed out|not open)|could not (receive|send) data|connection has been closed"
    r"|the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)"
    r"|remaining connection slots|too many clients|deadlock detected",
    re.IGNORECASE,
)
# Somebody's rule for how long a transaction may take: the next one would take as long.
_CUT_BY_RULE = re.compile(r"due to (transaction|idle-in-transaction) timeout")


class DbtError(Exception):
    """dbt could not do what was asked; the message says which of its nodes failed and why."""


def dbt_environment(warehouse: Warehouse, artifacts: Path) -> dict[str, str]:
    """The variables that profiles.yml reads, and where dbt may write."""
    target = warehouse.target
    return {
        "TAXI_DBT_HOST": target.host,
        "TAXI_DBT_PORT": str(target.port),
        "TAXI_DBT_USER": target.user,
        # dbt hides the value of every variable of this prefix from its logs.
        "DBT_ENV_SECRET_TAXI_PASSWORD": target.password,
        "TAXI_DBT_DBNAME": target.dbname,
        "TAXI_DBT_SCHEMA": warehouse.schema,
        # More at once than there are cores only keep the longest from ending.
        "TAXI_DBT_THREADS": str(min(os.cpu_count() or 1, MAX_THREADS)),
        "TAXI_DBT_SSLMODE": target.sslmode,
        "TAXI_DBT_SSLROOTCERT": target.sslrootcert or "",
        # What dbt's transactions begin with (macros/session_settings.sql).
        "TAXI_DBT_SESSION": transaction_settings(target.lock_timeout).as_string(),
        # psycopg2 gives a database in SQL_ASCII the codec of ASCII.
        "PGCLIENTENCODING": "UTF8",
        "DBT_PROJECT_DIR": str(DBT_PROJECT_DIRECTORY),
        "DBT_PROFILES_DIR": str(DBT_PROJECT_DIRECTORY),
        "DBT_TARGET_PATH": str(artifacts),
        "DBT_LOG_PATH": str(artifacts / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        # dbt hears neither of the two by itself.
        **({"DBT_USE_COLORS": "false"} if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else {}),
    }


def prepared_project(settings: Settings) -> Path:
    """The directory of dbt's artifacts for this project, schema and database, with an up-to-date manifest.json in it.

    Parses the project only when no manifest of the same files, schema, database and dbt is there. Starts no server.
    """
    versions = [version(package) for package in ("dbt-core", "dbt-postgres", "dagster-dbt")]
    digest = hashlib.sha256(f"{settings.schema_name} {describe_warehouse(settings).target.dbname} {versions}".encode())
    for path in sorted(_project_files()):
        digest.update(str(path.relative_to(DBT_PROJECT_DIRECTORY)).encode() + b"\0" + path.read_bytes())
    parent = make_home(settings) / "dbt"
    parent.mkdir(exist_ok=True)
    artifacts = parent / f"{settings.schema_name}-{digest.hexdigest()[:16]}"
    if not (artifacts / "manifest.json").exists():
        with FileLock(parent / ".lock"):
            if not (artifacts / "manifest.json").exists():
                _parse(settings, artifacts)
                for other in parent.glob(f"{settings.schema_name}-*"):
                    # A run that goes on still reads those that it began with.
                    if other != artifacts and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                        shutil.rmtree(other, ignore_errors=True)
    return artifacts


def read_manifest(artifacts: Path) -> dict[str, Any]:
    """dbt's manifest as dagster-dbt takes it."""
    return json.loads((artifacts / "manifest.json").read_text())


@dataclass(frozen=True)
class DbtOutcome:
    """What an invocation did: its structured log, what became of every node, and the error that it ended with.

    `results` are dbt's own RunResult objects, `events` the events of dbt's log above debug level, both in their order.
    """

    events: Sequence[Mapping[str, Any]]
    results: Sequence[Any]
    error: DbtError | None

    @property
    def has_lost_connection(self) -> bool:
        """Whether a cut connection, or none that could be made, is among the errors: another attempt can help."""
        failed = [str(result.message) for result in self.results if result.status in FAILED_STATUSES]
        messages = failed or [str(self.error)] * (self.error is not None)
        return any(_CONNECTION_LOST.search(message) and not _CUT_BY_RULE.search(message) for message in messages)


def invoke_dbt(
    args: Sequence[str],
    warehouse: Warehouse,
    artifacts: Path,
    on_node: Callable[[str], None] = lambda unique_id: None,
    log: Callable[[str], None] = lambda message: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> DbtOutcome:
    """Run dbt with `args` on the parsed project; no other build goes on in the schema meanwhile.

    `on_node` is called with every node that ended and `on_line` with every line of dbt's log, from dbt's threads; `log`
    with what was done before dbt began. Raises WarehouseError where a build cannot begin.

    What interrupts dbt (Ctrl-C, a terminated run) is raised again once dbt has cancelled its statements.
    """
    # Imported here: dbt takes seconds, and most processes that import this module never run it.
    from dbt.cli.main import dbtRunner

    from taxi_orchestration.dbt.dbt_internals import Manifest, extended_mashumuro_decoder, msg_to_dict

    # dbt's own record of a parse. Not manifest.json: dbt cannot tell generic tests from singular ones in that.
    parsed = (artifacts / "partial_parse.msgpack").read_bytes()
    manifest = Manifest.from_msgpack(parsed, decoder=extended_mashumuro_decoder)
    events: list[dict[str, Any]] = []

    def callback(message: Any) -> None:
        if message.info.name == "NodeFinished":
            on_node(message.data.node_info.unique_id)
        if message.info.level != "debug":
            events.append(msg_to_dict(message))
            on_line(message.info.msg)

    # Its artifacts are read by nobody, and two runs would write the same files.
    flags = ["--log-level-file", "none", "--no-write-json"]
    with ExitStack() as stack:
        stack.enter_context(_signals_as_keyboard_interrupt())
        if BUILDING.intersection(args):
            stack.enter_context(one_build(warehouse, log))
        stack.enter_context(_environment(dbt_environment(warehouse, artifacts)))
        outcome = dbtRunner(manifest=manifest, callbacks=[callback]).invoke([*args, *flags])
    if outcome.exception is not None and not isinstance(outcome.exception, Exception):
        raise outcome.exception
    results = getattr(outcome.result, "results", [])
    return DbtOutcome(events, results, None if outcome.success else DbtError(_what_failed(outcome.exception, results)))


def _what_failed(exception: BaseException | None, results: Sequence[Any]) -> str:
    if exception is not None:
        return str(exception)
    failed = [result for result in results if result.status in FAILED_STATUSES]
    return "; ".join(f"{result.node.name}: {' '.join((result.message or result.status).split())}" for result in failed)


def _project_files() -> list[Path]:
    return [
        path
        for path in DBT_PROJECT_DIRECTORY.rglob("*")
        if path.suffix in (".sql", ".yml", ".csv", ".md")
        and "target" not in path.relative_to(DBT_PROJECT_DIRECTORY).parts
    ]


def _parse(settings: Settings, artifacts: Path) -> None:
    from dbt.cli.main import dbtRunner

    # manifest.json must appear whole, and last: it is what says that the project is prepared.
    unfinished = artifacts.with_suffix(".new")
    with _environment(dbt_environment(describe_warehouse(settings), unfinished)):
        result = dbtRunner().invoke(["--quiet", "parse", "--log-level-file", "none"])
    if not result.success:
        raise DbtError(f"The dbt project in {DBT_PROJECT_DIRECTORY} cannot be parsed: {result.exception}")
    shutil.rmtree(artifacts, ignore_errors=True)
    unfinished.rename(artifacts)


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Let dbt cancel its statements when it is interrupted: what Dagster raises upon a signal it does not know."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables in os.environ for the time of the block: dbt reads its profile from nowhere else."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
