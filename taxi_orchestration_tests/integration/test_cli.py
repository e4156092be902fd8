"""`taxi` as a subprocess: its output and its exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import requests
from click.testing import CliRunner
from dagster import DagsterInstance, DagsterRunStatus, Definitions, RunsFilter
from psycopg import sql
from sqlalchemy import create_engine, text

from taxi_orchestration.cli.backfill import Backfill
from taxi_orchestration.cli.commands import main
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.postgres.server import find, remove
from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, Settings
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.dagster_dev import Ui
from taxi_orchestration_tests.support.interference import RefuseRows
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH
from taxi_orchestration_tests.support.programs import IN_THE_BACKGROUND, TAXI, taxi
from taxi_orchestration_tests.support.terminal import COLOUR, ESCAPE, run_on_terminal
from taxi_orchestration_tests.support.tlc_host import TlcHost
from taxi_orchestration_tests.support.waiting import DAEMON_SECONDS, until
from taxi_orchestration_tests.support.warehouses import fetch_rows


def fetch_all_rows(target: PostgresTarget, schema: str) -> list[list[tuple[Any, ...]]]:
    """Return the rows of every table, without the time and the run of each load."""
    names = [
        name
        for (name,) in fetch_rows(
            target, schema, "select tablename from pg_tables where schemaname = current_schema order by 1"
        )
    ]
    return [
        fetch_rows(
            target,
            schema,
            sql.SQL("select to_jsonb(t) - 'loaded_at' - 'dagster_run_id' from {} t order by t::text")
            .format(sql.Identifier(name))
            .as_string(),
        )
        for name in names
    ]


def parse_summary_rows(output: str) -> list[list[str]]:
    """Return the rows of the summary table that have numbers, each split into words."""
    words = [line.split() for line in output.splitlines()]
    return [w for w in words if w and w[0].startswith("2024-") and "of" in w]


def parse_loaded_months(errors: str) -> list[str]:
    """Return the loaded months in the order of their log lines."""
    words = [line.split() for line in errors.splitlines()]
    return [w[0] for w in words if len(w) == 7 and w[2] == "rows" and w[4] in ("kB", "MB")]


@pytest.mark.timeout(600)
def test_a_backfill_loads_builds_and_checks_from_any_directory_and_can_be_resumed(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    refuse_rows: RefuseRows,
    backfill: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    schema = settings.schema_name
    for month in (JANUARY, MARCH):
        tlc.publish(month, rows=300)
    tlc.publish_bytes(FEBRUARY, b"<html>Sign in</html>")

    planned = taxi("backfill", "2024-01-01", "2024-03-31", "--dry-run", cwd=tmp_path)
    assert planned.returncode == 0
    assert planned.stdout.splitlines() == [
        *(f"would load {key}" for key in ("2024-01", "2024-02", "2024-03")),
        "3 of the 3 months 2024-01 to 2024-03 to load, 0 to leave as they are.",
    ]
    assert fetch_rows(target, schema, "select current_schema") == [(None,)]
    assert instance.get_runs() == []
    assert tlc.requests_for(JANUARY) == 0

    # As in a fresh clone: dbt is imported and parses its project while the progress bars are shown.
    shutil.rmtree(settings.taxi_home / "dbt", ignore_errors=True)
    # On a terminal: two progress bars instead of a line per month, then the failures. The table goes to stdout.
    first = run_on_terminal([TAXI, "backfill", "2024-01", "2024-03"], os.environ, pipes_output=True, cwd=tmp_path)
    assert first.returncode == 1, first.text
    assert [row[:3] for row in parse_summary_rows(first.piped)] == [
        ["2024-01", "300", "300"],
        ["2024-03", "300", "300"],
    ]
    assert "2024-02 failed" in first.piped
    assert "\x1b" not in first.piped
    assert all(int(fact) + int(rejected) == 300 for _, _, _, fact, rejected, *_ in parse_summary_rows(first.piped))
    bars = [line for line in first.lines if line.startswith(("Loading", "Building"))]
    assert any(re.search(r"3 of 3 months  600 rows  [\d.]+ kB", line) for line in bars)
    assert any(re.search(r"Building .* [1-9]\d* of \d+ models and tests", line) for line in bars)
    assert max(map(len, bars)) <= 80
    assert parse_loaded_months(first.text) == []
    assert "START sql" not in first.text
    assert "2024-02 failed. Downloading" in first.text
    assert "Sign in" in " ".join(first.text.split())
    assert "Traceback" not in first.text
    assert "2 months loaded in" in first.text

    status = taxi("status", "--json")
    months = {month["month"]: month for month in json.loads(status.stdout)}
    assert months["2024-02"]["state"] == "failed"
    assert months["2024-02"]["published"] is True
    assert months["2024-01"]["state"] == "completed"
    assert months["2024-01"]["rows"] == months["2024-01"]["fact_rows"] + months["2024-01"]["rejected_rows"] == 300
    assert months["2024-01"]["run"] in {run.run_id for run in instance.get_runs()}
    # A month that was requested has failed.
    assert status.returncode == 1
    assert "2024-02" in taxi("status", "--all").stdout

    only_new = CliRunner().invoke(main, ["backfill", "2024-01", "2024-03", "--reprocess", "none", "--dry-run"])
    assert "0 of the 3 months 2024-01 to 2024-03 to load, 3 to leave" in only_new.output

    # Through a pipe: one line per month, dbt's log with --verbose, and no colours.
    tlc.publish(FEBRUARY, rows=100)
    second = taxi("backfill", "2024-02", "--verbose")
    assert second.returncode == 0, second.stderr
    assert parse_loaded_months(second.stderr) == ["2024-02"]
    assert [row[0] for row in parse_summary_rows(second.stdout)] == ["2024-02"]
    assert re.search(r"OK created sql month_window model .*fct_trips", second.stderr)
    assert "1 month loaded in" in second.stderr
    assert "Next: make dev" in second.stderr
    assert "\x1b" not in second.stdout + second.stderr
    assert tlc.requests_for(JANUARY) == 1

    # A query of the reader, from another directory.
    query = "select pickup_month, trips, total_amount from monthly_summary where is_complete order by 1 desc limit 5"
    queried = taxi("psql", "--", "-c", query, cwd=tmp_path)
    assert queried.returncode == 0, queried.stderr
    assert "2024-03-01" in queried.stdout
    assert "(3 rows)" in queried.stdout

    before, runs = fetch_all_rows(target, schema), len(instance.get_runs())
    repeated = taxi("backfill", "2024-01", "2024-03")
    assert (repeated.returncode, repeated.stdout) == (0, "")
    assert repeated.stderr == "Nothing to do: 3 months are loaded and built.\n"
    assert fetch_all_rows(target, schema) == before
    assert len(instance.get_runs()) == runs

    # Both in this process, which saves their imports.
    capfd.readouterr()
    options = ("--reprocess", "completed", "--run-backwards", "--max-active-runs", "1")
    assert backfill("2024-01", "2024-04", *options) == 0
    again = capfd.readouterr()
    assert "2024-04 not published" in again.err
    assert f"Not published: 2024-04. Downloading {DATASET.label} 2024-04 ({tlc.url}/" in again.err
    assert "3 months loaded in" in again.err
    assert parse_loaded_months(again.err) == ["2024-03", "2024-02", "2024-01"]
    assert len(parse_summary_rows(again.out)) == 3
    assert fetch_all_rows(target, schema) == before
    assert not instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED, DagsterRunStatus.NOT_STARTED]))

    with refuse_rows("fct_trips"):
        assert backfill("2024-01", "--reprocess", "completed") == 1
    errors = capfd.readouterr().err
    (log,) = re.findall(r"dbt's log is in (\S+)", errors)
    assert "in_the_way" in Path(log).read_text()
    assert "Next: " not in errors


def test_a_range_without_any_published_month_fails_and_shows_the_answer_of_the_host(
    tlc: TlcHost,
    instance: DagsterInstance,
    backfill: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TLC_BASE_URL", f"{tlc.url}/mistyped")
    assert backfill("2024-01", "2024-02") == 1
    shown = capfd.readouterr().err
    expected = f"Not published: 2024-01 to 2024-02. Downloading {DATASET.label} 2024-01 ({tlc.url}/mistyped/"
    assert expected in shown
    assert "the host answered 403" in shown
    assert "0 months loaded in" in shown
    assert "Next: " not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("2024-3", "2024-04"), "'2024-3' is not a month. Write it as YYYY-MM"),
        (("2024-01", "last"), "'last' is not a month"),
        (("2013-07", "2013-09"), f"2013-07 is before 2013-08, where {DATASET.label} begins"),
        (("2024-01", "2999-01"), "2999-01 cannot be published yet"),
        (("2024-02", "2024-01"), "The range 2024-02 to 2024-01 runs backwards: put the older month first"),
        ((), "No month was given. Give one as 2024-03, or FROM and TO as 2024-01 2024-03, or --missing, --changed"),
        (("2024-01", "2024-02", "2024-03"), "3 months were given. Give one month, or two: FROM and TO"),
        (("2024-02-30",), "'2024-02-30' is not a month"),
        (("2024-01", "2024-02", "--reprocess", "all"), "'all' is not one of"),
        (("2024-01", "2024-02", "--max-active-runs", "0"), "0 is not in the range"),
    ],
)
def test_invalid_backfill_arguments_are_refused_before_anything_is_created(
    arguments: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAXI_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(main, ["backfill", *arguments])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "home").exists()


COMPLETE = {"PG_HOST": "127.0.0.1", "PG_PORT": "9", "PG_USER": "ada", "PG_PASSWORD": "s3cret", "PG_DBNAME": "trips"}


@pytest.mark.parametrize("command", [("backfill", "2024-01", "2024-01"), ("status",), ("psql",)])
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"PG_HOST": "db", "PG_USER": "ada"}, "PG_PASSWORD, PG_DBNAME not set"),
        ({"TAXI_HOME": "/dev/null/home"}, "TAXI_HOME /dev/null/home cannot be created"),
        ({"DAGSTER_STUDENT": "o'hara"}, "DAGSTER_STUDENT must be a plain name"),
    ],
)
def test_invalid_variables_are_refused_without_a_traceback(
    command: tuple[str, ...], variables: Mapping[str, str], words: str
) -> None:
    done = taxi(*command, **variables)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_dotenv_of_the_checkout_is_read_in_any_directory_and_overrides_the_shell(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(PROJECT_DIRECTORY / "taxi_orchestration", checkout / "taxi_orchestration")
    (checkout / ".env").write_text("PG_HOST=dotenv.example\nPG_USER=ada\nPG_PASSWORD='p w'\nPG_DBNAME=taxi\n")
    done = subprocess.run(
        [sys.executable, "-c", "from taxi_orchestration.cli.commands import main; main()", "url"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(checkout), "PG_HOST": "shell.example"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("postgresql://ada:p%20w@dotenv.example:5432/taxi?sslmode=require&"), done.stderr


@pytest.mark.parametrize(("argument", "code", "printed"), [("--help", 0, "psql"), ("backfill", 2, "No month")])
def test_the_program_exits_with_its_exit_code_and_loses_no_output(argument: str, code: int, printed: str) -> None:
    program = "import atexit; from taxi_orchestration.cli.commands import run; atexit.register(print, 'never'); run()"
    done = subprocess.run([sys.executable, "-c", program, argument], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert printed in done.stdout + done.stderr
    # The program exits without the other atexit handlers.
    assert "never" not in done.stdout


@pytest.mark.parametrize("command", [("backfill", "2024-01", "2024-01"), ("status",)])
def test_the_error_of_a_missing_server_says_what_to_do_and_contains_no_password(
    instance: DagsterInstance, command: tuple[str, ...]
) -> None:
    done = taxi(*command, **COMPLETE)
    assert done.returncode == 2, done.stderr
    message = done.stderr
    assert "taxi: Connecting to PostgreSQL at ada@127.0.0.1:9/trips failed: connection to server" in message
    assert "Connection refused. Check that the server" in message
    assert "runs and that PG_HOST" in message
    assert "Traceback" not in message
    assert "s3cret" not in message


def test_a_server_that_refuses_the_password_is_named(instance: DagsterInstance, server: PostgresTarget) -> None:
    server_variables = {
        "PG_HOST": server.host,
        "PG_PORT": str(server.port),
        "PG_DBNAME": server.dbname,
        "PG_SSLMODE": "disable",
    }
    done = taxi("backfill", "2024-01", "2024-01", PG_USER=server.user, PG_PASSWORD="wr0ng", **server_variables)
    assert done.returncode == 2, done.stderr
    assert "password authentication failed" in done.stderr
    assert "wr0ng" not in done.stderr


def test_the_error_of_an_unreachable_dagster_storage_names_its_variable(environment: dict[str, str]) -> None:
    done = taxi("backfill", "2024-01", "2024-01", DAGSTER_POSTGRES_URL="postgresql://d:s3cret@127.0.0.1:9/d")
    assert done.returncode == 2, done.stderr[-500:]
    assert "DAGSTER_POSTGRES_URL" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stderr


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    remove(home)


def test_taxi_commands_start_use_and_stop_the_embedded_server(own_home: Path, tmp_path: Path) -> None:
    home = {"TAXI_HOME": str(own_home)}
    url = taxi("url", cwd=tmp_path, **home).stdout.strip()
    with psycopg.connect(url) as connection:
        connection.execute("create schema dagster_default")
        connection.execute("create table mine as select 42 as answer")
    answer = taxi("psql", "--", "-Atc", "select answer from mine", cwd=tmp_path, **home)
    assert (answer.stdout, answer.returncode) == ("42\n", 0)
    assert taxi("psql", "--", "-c", "select nothing", **home).returncode == 1
    versions = taxi("psql", "--", "-Atc", r"\echo :VERSION_NUM :SERVER_VERSION_NUM", **home).stdout.split()
    assert len({int(version) // 10_000 for version in versions}) == 1, (
        "an older psql does not support every feature of a newer server"
    )
    with psycopg.connect(url):
        refused = taxi("stop", **home)
        assert refused.returncode == 1
        assert f"(process {os.getpid()})" in refused.stderr
        assert "taxi stop --force" in refused.stderr
        assert find(own_home) is not None
        assert "is stopped" in taxi("stop", "--force", **home).stdout
    assert find(own_home) is None
    assert "was not running" in taxi("stop", **home).stdout
    assert taxi("psql", "--", "-Atc", "select answer from mine", **home).stdout == "42\n"

    # `make clean-data` runs this command, which asks for a confirmation.
    command = [TAXI, "remove-data"]
    with psycopg.connect(url) as connection:
        for schema in ("dagster_ada", "dagster_bob"):
            connection.execute(
                f"create schema {schema}; create table {schema}.raw_loads as select generate_series(1, 6)"
            )
        refused = taxi("remove-data", stdin="y\n", **home)
        assert f"(process {os.getpid()}). End them first." in refused.stderr
    kept = run_on_terminal(command, {**os.environ, **home}, typed="n\n")
    assert "Remove 12 months of trips in 2 schemas and Dagster's history" in kept.text
    assert "Nothing was removed" in kept.text
    assert taxi("psql", "--", "-Atc", "select answer from mine", **home).stdout == "42\n"
    (own_home / "notes.txt").write_text("not of this project")
    # A killed load leaves this directory and these files.
    (own_home / "download-abc").mkdir()
    for lock in (".downloads.lock", ".download-abc.lock"):
        (own_home / lock).touch()
    assert run_on_terminal(command, {**os.environ, **home}, typed="y\n").returncode == 0
    assert [path.name for path in own_home.iterdir()] == ["notes.txt"]
    assert find(own_home) is None


def test_output_into_a_closed_pipe_prints_no_error(settings: Settings, target: PostgresTarget) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:
        done = subprocess.run([TAXI, "url"], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_printed_url_connects_and_the_read_only_url_cannot_write(
    settings: Settings, target: PostgresTarget, home: Path
) -> None:
    schema = settings.schema_name
    assert "Load a month first" in taxi("url", "--read-only").stderr
    with psycopg.connect(target.url(), autocommit=True) as owner:
        owner.execute(sql.SQL("create schema {0}; create table {0}.before (a int)").format(sql.Identifier(schema)))
        reader_url = taxi("url", "--read-only").stdout.strip()
        owner.execute(sql.SQL("create table {}.after (a int)").format(sql.Identifier(schema)))
    jdbc = taxi("url", "--jdbc").stdout.strip()
    assert jdbc.startswith(f"jdbc:postgresql://127.0.0.1:{target.port}/taxi?user=taxi&password=")
    assert jdbc.endswith(f"&currentSchema={schema}%2Cpublic")
    engine = create_engine(taxi("url", "--sqlalchemy", "--read-only").stdout.strip())
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from before")).scalar() == 0
    engine.dispose()
    with psycopg.connect(reader_url, autocommit=True) as reader:
        assert reader.execute("select count(*) from after").fetchone() == (0,)
        # The role lacks the privileges for changes, even in a session that is not read-only.
        reader.execute("set default_transaction_read_only = off")
        for statement in (
            "insert into before values (1)",
            "drop table before",
            "create table other (a int)",
            "create temporary table other (a int)",
            "set role taxi",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(statement)
    assert (home / "postgres" / "reader.json").stat().st_mode & 0o777 == 0o600
    assert taxi("url", "--read-only").stdout.strip() == reader_url
    external = taxi("url", "--read-only", **COMPLETE)
    assert external.returncode == 2
    assert "docs/reliability.md has the grants" in external.stderr


@pytest.mark.timeout(600)
def test_taxi_dev_prints_only_its_address_and_storage_and_cannot_run_twice(own_home: Path, tlc: TlcHost) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month)
    port = free_port()
    variables = {**os.environ, "TAXI_HOME": str(own_home), "TLC_BASE_URL": tlc.url}
    home = {"TAXI_HOME": str(own_home)}
    log = own_home.parent / "dev.log"
    lines = [
        f"The Dagster UI starts at http://127.0.0.1:{port} in some seconds. Ctrl-C stops it.",
        f"Its history is kept in the embedded PostgreSQL in {own_home}, which runs until you stop it: taxi stop",
    ]
    with log.open("wb") as output:
        dev = subprocess.Popen(
            [*IN_THE_BACKGROUND, TAXI, "dev", "--port", str(port)],
            env=variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(dev, f"http://127.0.0.1:{port}/server_info")
        second = taxi("dev", "--port", str(port + 1), **home)
        assert (second.returncode, second.stdout) == (2, "")
        assert f"runs already at http://127.0.0.1:{port}." in second.stderr
        refused = taxi("stop", **home)
        assert refused.returncode == 1
        assert f"dagster dev (process {dev.pid})" in refused.stderr
        assert f"The Dagster UI is at http://127.0.0.1:{port}" in refused.stderr
        refused = taxi("remove-data", stdin="y\n", **home)
        assert "uses the data" in refused.stderr
        assert not refused.stdout, "asked before the refusal"
        ui = Ui(port)
        # This takes two iterations of the daemon, 30 seconds apart.
        backfill = ui.launch_backfill([{"path": ["raw_trips"]}], ["2024-01", "2024-02"])
        assert ui.ended_backfill(backfill, DAEMON_SECONDS)["status"] == "COMPLETED_SUCCESS"
        assert re.sub(r"\S+/taxi stop", "taxi stop", log.read_text()).splitlines() == lines
        # Ctrl-C sends SIGINT to all processes of the terminal.
        os.killpg(dev.pid, signal.SIGINT)
        assert dev.wait(60) == 0
        wait_for_group_end(dev.pid)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(dev.pid, signal.SIGKILL)
        dev.wait()
    assert re.sub(r"\S+/taxi stop", "taxi stop", log.read_text()).splitlines() == lines
    # Without --force, because no process uses the server any more.
    assert "is stopped" in taxi("stop", **home).stdout


def wait_for_group_end(group: int) -> None:
    """Wait until no process of a process group is left: children may end a little later than their parent."""
    deadline = time.monotonic() + 60
    while any(is_in_group(process, group) for process in psutil.process_iter()):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_in_group(process: psutil.Process, group: int) -> bool:
    try:
        # Orphaned processes stay zombies if PID 1 does not wait for them.
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def wait_until_it_answers(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            requests.get(url, timeout=10).raise_for_status()
            return
        except requests.RequestException:
            time.sleep(0.2)


# dbt is last, because `taxi dbt` replaces the process by exec.
PRINTING = ("backfill 2024-01 --missing", "status", "report", "url", "class status", "dbt debug")


@pytest.mark.parametrize(("variables", "unwanted"), [({"NO_COLOR": "1"}, COLOUR), ({"TERM": "dumb"}, ESCAPE)])
def test_no_command_prints_colours_on_a_terminal_without_colours_or_with_no_color(
    variables: Mapping[str, str],
    unwanted: re.Pattern[str],
    instance: DagsterInstance,
    server: PostgresTarget,
    tmp_path: Path,
) -> None:
    # An unreachable host and a student with wrong settings: on other terminals both messages are in colour.
    student = tmp_path / "class" / "ada" / "settings.env"
    student.parent.mkdir(parents=True)
    student.write_text("PG_PORT=none")
    warehouse = {name: str(getattr(server, name[3:].lower())) for name in COMPLETE}
    home = {"TAXI_HOME": str(tmp_path), "TLC_BASE_URL": "http://127.0.0.1:9", "TAXI_FIRST_MONTH": "2024-01"}
    program = """
import sys
from contextlib import suppress
from taxi_orchestration.cli.commands import main
for command in sys.argv[1:]:
    print("$ taxi", command, flush=True)
    with suppress(SystemExit):
        main(command.split())
"""
    command = [sys.executable, "-c", program, *PRINTING]
    shown = run_on_terminal(command, {**os.environ, **warehouse, "PG_SSLMODE": "disable", **home, **variables})
    _, *parts = re.split(r"^\$ taxi (.*?)\r?$", shown.screen, flags=re.MULTILINE)
    printed = dict(zip(parts[::2], parts[1::2], strict=True))
    assert tuple(printed) == PRINTING, shown.screen
    assert all(text.strip() for text in printed.values()), shown.screen
    assert [command for command, text in printed.items() if unwanted.search(text)] == []


def test_dbt_runs_with_the_warehouses_environment_and_its_exit_code_is_returned(
    tlc: TlcHost, environment: dict[str, str], tmp_path: Path
) -> None:
    shown = taxi("dbt", "debug", "--connection", cwd=tmp_path)
    assert shown.returncode == 0, shown
    assert f"schema: {environment['PG_SCHEMA']}\n" in shown.stdout
    assert list(tmp_path.glob("logs")) == []
    assert taxi("dbt", "no-such-command", cwd=tmp_path).returncode == 2


def test_ctrl_c_ends_a_backfill_soon_and_the_next_one_continues_it(
    tlc: TlcHost,
    settings: Settings,
    target: PostgresTarget,
    instance: DagsterInstance,
    backfill: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    schema = settings.schema_name
    tlc.publish(JANUARY, rows=300)
    tlc.publish(FEBRUARY, rows=1_000_000)
    command = [TAXI, "backfill", "2024-01", "2024-02", "--max-active-runs", "1"]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        with psycopg.connect(target.url(), autocommit=True) as connection:
            copying = (
                "select 1 from pg_stat_activity where query ilike %s and state = 'active' and pid <> pg_backend_pid()"
            )
            statement = f'copy "{schema}"."raw_trips_2024_02"%'
            until(lambda: connection.execute(copying, [statement]).fetchone(), 120, pause=0.005)
            # The lock keeps the load open: on a busy machine the month could end before the interrupt arrives.
            raw_loads = sql.Identifier(schema, "raw_loads")
            with connection.transaction():
                connection.execute(sql.SQL("lock table {} in exclusive mode").format(raw_loads))
                interrupted = time.monotonic()
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=60)
    finally:
        program.kill()
        program.wait()
    assert time.monotonic() - interrupted < 15
    assert program.returncode == 130, errors
    assert "interrupted. Run the same command to continue; it skips what is done." in errors
    assert "Traceback" not in errors
    assert fetch_rows(target, schema, "select source_month, count(*) from raw_trips group by 1") == [(JANUARY, 300)]
    assert fetch_rows(target, schema, "select source_month from raw_loads") == [(JANUARY,)]
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.CANCELED}
    assert [record.status.value for record in instance.get_backfills()] == ["CANCELED"]

    tlc.publish(FEBRUARY, rows=400)
    assert backfill("2024-01", "2024-02") == 0
    assert [row[:3] for row in parse_summary_rows(capfd.readouterr().out)] == [
        ["2024-01", "300", "300"],
        ["2024-02", "400", "400"],
    ]


def test_two_backfills_of_the_same_range_at_once_have_the_result_of_one(
    tlc: TlcHost, settings: Settings, target: PostgresTarget, instance: DagsterInstance, definitions: Definitions
) -> None:
    for month in (JANUARY, FEBRUARY):
        tlc.publish(month, rows=300, seed=month.month)
    assert Backfill(definitions, instance, months_at_once=2).run([JANUARY, FEBRUARY]).succeeded
    expected = fetch_all_rows(target, settings.schema_name)
    with psycopg.connect(target.url()) as connection:
        connection.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(settings.schema_name)))
    command = [TAXI, "backfill", "2024-01", "2024-02", "--reprocess", "completed"]
    started = [
        subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(errors)
    assert fetch_all_rows(target, settings.schema_name) == expected
