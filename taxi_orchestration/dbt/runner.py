"""dbt in this process: its environment, its parsed project, and its invocation.

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
# The commands of dbt that change the schema.
BUILDING = frozenset({"build", "clone", "retry", "run", "run-operation", "seed", "snapshot"})
FAILED_STATUSES = ("error", "fail", "runtime error")

# The messages of libpq and PostgreSQL for a lost connection, a full or stopping server and a deadlock: dbt passes on
# only the text.
_TRANSIENT = re.compile(
    r"server closed the connection|terminating connection|connection already closed|connection .*(refused|failed)"
    r"|connection (reset|timed out|not open)|could not (receive|send) data|connection has been closed"
    r"|the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)"
    r"|remaining connection slots|too many clients|deadlock detected",
    re.IGNORECASE,
)
# A configured limit ended the transaction: a retry would reach the same limit.
_CUT_BY_RULE = re.compile(r"due to (transaction|idle-in-transaction) timeout")


class DbtError(Exception):
    """An invocation of dbt failed; the message names the failed nodes and their errors."""


def dbt_environment(warehouse: Warehouse, artifacts: Path) -> dict[str, str]:
    """Return the variables that profiles.yml reads, and the directories that dbt writes to."""
    target = warehouse.target
    return {
        "TAXI_DBT_HOST": target.host,
        "TAXI_DBT_PORT": str(target.port),
        "TAXI_DBT_USER": target.user,
        # dbt hides the value of every variable of this prefix from its logs.
        "DBT_ENV_SECRET_TAXI_PASSWORD": target.password,
        "TAXI_DBT_DBNAME": target.dbname,
        "TAXI_DBT_SCHEMA": warehouse.schema,
        # More threads than cores delay the longest model.
        "TAXI_DBT_THREADS": str(min(os.cpu_count() or 1, MAX_THREADS)),
        "TAXI_DBT_SSLMODE": target.sslmode,
        "TAXI_DBT_SSLROOTCERT": target.sslrootcert or "",
        # The first statements of dbt's transactions (macros/session_settings.sql).
        "TAXI_DBT_SESSION": transaction_settings(target.lock_timeout).as_string(),
        # psycopg2 would use the ASCII codec for a database in SQL_ASCII.
        "PGCLIENTENCODING": "UTF8",
        "DBT_PROJECT_DIR": str(DBT_PROJECT_DIRECTORY),
        "DBT_PROFILES_DIR": str(DBT_PROJECT_DIRECTORY),
        "DBT_TARGET_PATH": str(artifacts),
        "DBT_LOG_PATH": str(artifacts / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        # dbt itself ignores NO_COLOR and TERM.
        **({"DBT_USE_COLORS": "false"} if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" else {}),
    }


def prepared_project(settings: Settings) -> Path:
    """Return the directory of dbt's artifacts for this project, schema and database, with a current manifest.json.

    Parses the project only if no manifest of the same files, schema, database and dbt version exists. Starts no server.
    Raises DbtError for a project that cannot be parsed, SettingsError for a TAXI_HOME that cannot be written.
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
                    # A running dbt still reads the artifacts that it started with.
                    if other != artifacts and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                        shutil.rmtree(other, ignore_errors=True)
    return artifacts


def read_manifest(artifacts: Path) -> dict[str, Any]:
    """Read dbt's manifest in the form that dagster-dbt accepts."""
    return json.loads((artifacts / "manifest.json").read_text())


@dataclass(frozen=True)
class DbtOutcome:
    """The outcome of an invocation: its structured log, the result of every node, and its error.

    `results` are dbt's own RunResult objects, `events` the events of dbt's log above debug level, both in dbt's order.
    """

    events: Sequence[Mapping[str, Any]]
    results: Sequence[Any]
    error: DbtError | None

    @property
    def is_transient(self) -> bool:
        """Return whether a lost connection, a full server or a deadlock is among the errors: a retry can help."""
        failed = [str(result.message) for result in self.results if result.status in FAILED_STATUSES]
        messages = failed or [str(self.error)] * (self.error is not None)
        return any(_TRANSIENT.search(message) and not _CUT_BY_RULE.search(message) for message in messages)


def invoke_dbt(
    args: Sequence[str],
    warehouse: Warehouse,
    artifacts: Path,
    on_node: Callable[[str], None] = lambda unique_id: None,
    log: Callable[[str], None] = lambda message: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> DbtOutcome:
    """Run dbt with `args` on the parsed project; a lock excludes other builds of the schema meanwhile.

    `on_node` is called with every finished node and `on_line` with every line of dbt's log, from dbt's threads; `log`
    with messages from before the start of dbt. Raises WarehouseError if a build cannot start.

    An interruption (Ctrl-C, a terminated run) is raised again once dbt has cancelled its statements.
    """
    # Imported here: importing dbt takes seconds, and most processes that import this module never run dbt.
    from dbt.cli.main import dbtRunner

    from taxi_orchestration.dbt.dbt_internals import Manifest, extended_mashumuro_decoder, msg_to_dict

    # dbt's own file of a parse: from manifest.json dbt cannot distinguish generic tests from singular ones.
    parsed = (artifacts / "partial_parse.msgpack").read_bytes()
    manifest = Manifest.from_msgpack(parsed, decoder=extended_mashumuro_decoder)
    events: list[dict[str, Any]] = []

    def callback(message: Any) -> None:
        if message.info.name == "NodeFinished":
            on_node(message.data.node_info.unique_id)
        if message.info.level != "debug":
            events.append(msg_to_dict(message))
            on_line(message.info.msg)

    # Nothing reads dbt's artifacts of an invocation, and two runs would write the same files.
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

    # manifest.json marks the project as parsed, so the directory is renamed into place only when complete.
    unfinished = artifacts.with_suffix(".new")
    with _environment(dbt_environment(describe_warehouse(settings), unfinished)):
        result = dbtRunner().invoke(["--quiet", "parse", "--log-level-file", "none"])
    if not result.success:
        raise DbtError(
            f"The dbt project in {DBT_PROJECT_DIRECTORY} cannot be parsed: {result.exception}. "
            "Fix the file that the message names, then run the same command again."
        )
    shutil.rmtree(artifacts, ignore_errors=True)
    unfinished.rename(artifacts)


@contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt upon SIGINT and SIGTERM: dbt cancels its statements upon no other exception."""
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
    """Set these variables in os.environ for the duration of the block: dbt's profile reads only the environment."""
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
