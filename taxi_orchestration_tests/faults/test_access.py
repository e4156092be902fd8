"""Access control and leaks: privileges, TLS, passwords, hostile names and URLs."""

import json
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
import trustme
from dagster import DagsterInstance
from psycopg import sql

from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.instance.opening import open_instance
from taxi_orchestration.instance.storage import storage_url
from taxi_orchestration.loading import open_loader
from taxi_orchestration.postgres import postmaster
from taxi_orchestration.postgres.connection import WarehouseUnavailableError, connect
from taxi_orchestration.settings import (
    DBT_PROJECT_DIRECTORY,
    IDENTIFIER,
    PostgresTarget,
    Settings,
    SettingsError,
    load_settings,
)
from taxi_orchestration.warehouse.warehouse import Warehouse, open_warehouse
from taxi_orchestration_tests.support.accounts import OTHER_UID, as_root, call_as
from taxi_orchestration_tests.support.clusters import DEBIAN, running_cluster
from taxi_orchestration_tests.support.http_host import ok
from taxi_orchestration_tests.support.jobs import empty_job
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, content_of_file, contents_of_schema
from taxi_orchestration_tests.support.programs import Programs, process_tree
from taxi_orchestration_tests.support.tlc_host import TlcHost, month_path
from taxi_orchestration_tests.support.waiting import until

OWNER, OWNER_PASSWORD = "taxi_owner", "correct-horse/battery:staple@%"


READ_BY_ANALYSTS = [
    *("raw_trips", "raw_loads", "raw_zones", "stg_trips", "fct_trips", "rejected_trips", "dim_zones", "dim_vendors"),
    *("monthly_revenue", "daily_zone_activity", "trip_quality"),
]


class Authority:
    """A certificate authority, and the files and settings of a server with its certificate for `localhost` only."""

    def __init__(self, directory: Path) -> None:
        self.root = trustme.CA()
        self.file = directory / "root.pem"
        self.root.cert_pem.write_to_path(self.file)
        issued = self.root.issue_cert("localhost")
        self.files = {
            "server.crt": b"".join(pem.bytes() for pem in issued.cert_chain_pems),
            "server.key": issued.private_key_pem.bytes(),
        }
        self.settings = {"ssl": "on", "ssl_cert_file": "../server.crt", "ssl_key_file": "../server.key"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[PostgresTarget]:
    """Debian's PostgreSQL, which accepts TLS connections only; a role owns one schema and Dagster's database."""
    if DEBIAN is None:
        pytest.skip("no PostgreSQL server with TLS: install Debian's package (apt install postgresql)")
    hba = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostssl all all ::1/128 scram-sha-256\n"
    with running_cluster(DEBIAN, authority.settings, authority.files, hba=hba) as superuser:
        with psycopg.connect(superuser.url(), autocommit=True) as connection:
            for statement in (
                sql.SQL("create role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                    sql.Identifier(OWNER), sql.Literal(OWNER_PASSWORD)
                ),
                sql.SQL("create role analyst login password 'analyst'"),
                sql.SQL("create database warehouse"),
                sql.SQL("create database dagster owner {}").format(sql.Identifier(OWNER)),
            ):
                connection.execute(statement)
        with psycopg.connect(replace(superuser, dbname="warehouse").url(), autocommit=True) as connection:
            # The rights that are sufficient according to docs/reliability.md.
            connection.execute("revoke create on schema public from public")
            connection.execute(sql.SQL("create schema taxi authorization {}").format(sql.Identifier(OWNER)))
        yield replace(
            superuser, host="localhost", dbname="warehouse", sslmode="verify-full", sslrootcert=str(authority.file)
        )


@pytest.fixture
def owner(tls_server: PostgresTarget) -> PostgresTarget:
    return replace(tls_server, user=OWNER, password=OWNER_PASSWORD)


@pytest.fixture
def as_owner(environment: dict[str, str], owner: PostgresTarget, monkeypatch: pytest.MonkeyPatch) -> PostgresTarget:
    """The owner, with `tls_server` as the warehouse and Dagster storage of the environment, over verified TLS."""
    variables = {
        "PG_HOST": owner.host,
        "PG_PORT": str(owner.port),
        "PG_USER": owner.user,
        "PG_PASSWORD": owner.password,
        "PG_DBNAME": owner.dbname,
        "PG_SCHEMA": "taxi",
        "PG_SSLMODE": owner.sslmode,
        "PG_SSLROOTCERT": str(owner.sslrootcert),
        "DAGSTER_POSTGRES_URL": replace(owner, dbname="dagster").url(),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return owner


def test_a_role_that_owns_only_its_schema_works_over_tls_and_grants_are_kept(
    as_owner: PostgresTarget,
    tls_server: PostgresTarget,
    tlc: TlcHost,
    backfill: Callable[..., int],
    programs: Programs,
    tmp_path: Path,
) -> None:
    tlc.publish(JANUARY)
    assert backfill("2024-01", "2024-01") == 0
    with psycopg.connect(as_owner.url()) as connection:
        connection.execute("grant usage on schema taxi to analyst")
        connection.execute("grant select on all tables in schema taxi to analyst")
    tlc.publish(JANUARY, rows=300, seed=1)
    tlc.publish(FEBRUARY, seed=2)
    assert backfill("2024-01", "2024-02", "--reprocess", "completed") == 0
    analyst = replace(tls_server, user="analyst", password="analyst")

    def count_as_analyst() -> dict[str, int]:
        counts = {}
        with psycopg.connect(analyst.url()) as connection:
            for name in READ_BY_ANALYSTS:
                row = connection.execute(
                    sql.SQL("select count(*) from {}").format(sql.Identifier("taxi", name))
                ).fetchone()
                assert row
                counts[name] = row[0]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("delete from taxi.raw_trips")
        return counts

    counts = count_as_analyst()
    assert counts["raw_trips"] == 500 == counts["fct_trips"] + counts["rejected_trips"]
    # Tables that dbt creates again have the grants of its configuration.
    project = shutil.copytree(DBT_PROJECT_DIRECTORY, tmp_path / "dbt_project") / "dbt_project.yml"
    project.write_text(
        project.read_text().replace("    +contract:", "    +grants: {select: [analyst]}\n    +contract:")
    )
    build = ("dbt", "build", "--full-refresh", "--exclude-resource-type", "test", "unit_test")
    full = programs.taxi(*build, "--project-dir", str(project.parent))
    full_output, _ = full.communicate()
    assert full.returncode == 0, full_output
    assert count_as_analyst() == counts
    with psycopg.connect(as_owner.url()) as connection:
        row = connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()
    assert row == (True,)


BAD_TLS = {
    "a certificate of another authority": (lambda good, wrong: (good.host, wrong), "certificate verify failed"),
    "a certificate for another host name": (lambda good, wrong: ("127.0.0.1", good.sslrootcert), "does not match host"),
}


@pytest.mark.parametrize("fault", BAD_TLS)
def test_with_verify_full_loader_dbt_and_dagsters_storage_refuse_a_bad_certificate(
    fault: str,
    as_owner: PostgresTarget,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = tmp_path / "wrong.pem"
    trustme.CA().cert_pem.write_to_path(wrong)
    change, message = BAD_TLS[fault]
    host, root = change(as_owner, str(wrong))
    bad = replace(as_owner, host=host, sslrootcert=root)
    with pytest.raises(WarehouseUnavailableError, match=message), connect(bad):
        pass
    settings = load_settings()
    outcome = invoke_dbt(["show", "--inline", "select 1"], Warehouse(bad, "taxi"), prepared_project(settings))
    assert message in str(outcome.error) or any(message in json.dumps(event, default=str) for event in outcome.events)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", replace(bad, dbname="dagster").url())
    with pytest.raises(SettingsError, match=message), open_instance() as instance:
        instance.get_runs(limit=1)


def test_a_server_without_tls_is_refused_where_tls_is_required(server: PostgresTarget) -> None:
    with (
        pytest.raises(WarehouseUnavailableError, match="does not support SSL"),
        connect(replace(server, sslmode="require")),
    ):
        pass


def test_tls_is_required_of_a_host_that_is_not_local_unless_the_settings_disable_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name in ("PG_USER", "PG_PASSWORD", "PG_DBNAME"):
        monkeypatch.setenv(name, "x")

    def read_modes(host: str) -> tuple[str, str]:
        monkeypatch.setenv("PG_HOST", host)
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"postgresql://x:x@{host}/dagster")
        settings = load_settings()
        assert settings.warehouse
        return settings.warehouse.sslmode, storage_url(settings).partition("sslmode=")[2]

    assert read_modes("db.example.org") == ("require", "require")
    assert read_modes("10.0.0.1") == ("require", "require")
    assert read_modes("localhost") == read_modes("127.0.0.1") == ("prefer", "prefer")
    # The TLS mode of the warehouse applies to Dagster's storage too, unless the storage URL sets a mode.
    monkeypatch.setenv("PG_SSLMODE", "verify-full")
    monkeypatch.setenv("PG_SSLROOTCERT", "/etc/root.pem")
    assert read_modes("db.example.org") == ("verify-full", "verify-full&sslrootcert=%2Fetc%2Froot.pem")
    monkeypatch.setenv("PG_SSLMODE", "disable")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://x:x@db.example.org/dagster?sslmode=disable")
    assert load_settings().warehouse.sslmode == "disable"  # type: ignore[union-attr]
    # With a root certificate, libpq would be stricter than some modes in the URL.
    assert storage_url(load_settings()).endswith("sslmode=disable")


HOSTILE_NAMES = {
    "a quote and a semicolon": 'x"; drop schema public; --',
    "an apostrophe": "x'; select 1; --",
    "letters other than a to z": "Öffentlich",
    "a Cyrillic letter": "t\N{CYRILLIC SMALL LETTER A}xi",
    "64 bytes": "x" * 64,
    "a name that PostgreSQL reserves": "pg_catalog",
    "a space": "two words",
    "NUL": "x\0y",
    "a path": "../x",
    "a leading digit": "1st",
    "dollar quotes": "$$",
}


@pytest.mark.parametrize("kind", HOSTILE_NAMES)
def test_a_schema_with_a_hostile_name_is_refused(kind: str) -> None:
    name = HOSTILE_NAMES[kind]
    with pytest.raises(ValueError, match="plain name"):
        Settings(pg_schema=name)
    assert not IDENTIFIER.fullmatch(name) or name.startswith("pg_")


def test_a_student_with_a_hostile_name_is_refused() -> None:
    # The name is a suffix, so it may begin with a digit or pg_. With its prefix it must fit into 63 bytes.
    allowed = ("a leading digit", "a name that PostgreSQL reserves")
    hostile = {kind: name for kind, name in HOSTILE_NAMES.items() if kind not in allowed}
    for name in [*hostile.values(), "x" * 60]:
        with pytest.raises(ValueError, match="plain name"):
            Settings(dagster_student=name)


HOSTILE_DATABASES = {
    "an apostrophe": "o'neil",
    "a double quote": 'x"; drop database y; --',
    "a backslash": "back\\slash",
    "a line break": "x\ny",
    "64 bytes": "x" * 64,
}


@pytest.mark.parametrize("kind", HOSTILE_DATABASES)
def test_a_database_name_that_dbt_would_not_quote_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="without quotes"):
        Settings(pg_dbname=HOSTILE_DATABASES[kind])


def test_hostile_names_of_roles_and_databases_are_quoted_correctly_everywhere(
    environment: dict[str, str], server: PostgresTarget, tlc: TlcHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = """o'neil"; drop %s; -- @:/?#\N{CYRILLIC SMALL LETTER A}"""
    warehouse = hostile.replace("'", "").replace('"', "")
    name = sql.Identifier(hostile)
    data = tlc.publish(JANUARY).path.read_bytes()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password {}").format(name, sql.Literal(hostile)))
        try:
            for database in (hostile, warehouse):
                connection.execute(sql.SQL("create database {} owner {}").format(sql.Identifier(database), name))
            hostile_target = replace(server, user=hostile, password=hostile, dbname=warehouse)
            for variable, value in (
                ("PG_HOST", hostile_target.host), ("PG_PORT", str(hostile_target.port)), ("PG_USER", hostile),
                ("PG_PASSWORD", hostile), ("PG_DBNAME", warehouse),
                ("DAGSTER_POSTGRES_URL", replace(hostile_target, dbname=hostile).url()),
            ):  # fmt: skip
                monkeypatch.setenv(variable, value)
            settings = load_settings()
            with open_loader(settings, open_warehouse(settings)) as loader:
                loader.load_month(JANUARY)
            assert contents_of_schema(hostile_target, settings.schema_name) == {JANUARY: content_of_file(data)}
            outcome = invoke_dbt(
                ["show", "--inline", "select 1"], Warehouse(hostile_target, "taxi"), prepared_project(settings)
            )
            assert outcome.error is None
            with open_instance() as instance:
                assert instance.get_runs() == []
        finally:
            for database in (hostile, warehouse):
                drop = sql.SQL("drop database if exists {} with (force)")
                connection.execute(drop.format(sql.Identifier(database)))
            connection.execute(sql.SQL("drop role {}").format(name))


@pytest.mark.parametrize("url", ["ftp://host/", "file:///etc/passwd", "//host", "javascript:alert(1)", "host"])
def test_a_download_address_that_is_not_http_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLC_BASE_URL", url)
    with pytest.raises(SettingsError, match="TLC_BASE_URL"):
        load_settings()


RUNS = """
query {
  instance { info runLauncher { name } executablePath }
  version
  runsOrError { ... on Runs { results {
    runId status runConfigYaml tags { key value }
    eventConnection { events { __typename
      ... on MessageEvent { message }
      ... on ExecutionStepFailureEvent { error { message stack } failureMetadata { metadataEntries { label description
        ... on TextMetadataEntry { text } } } }
      ... on RunFailureEvent { error { message stack } }
      ... on EngineEvent { error { message stack } metadataEntries { label description
        ... on TextMetadataEntry { text } } }
      ... on MaterializationEvent { metadataEntries { label description ... on TextMetadataEntry { text }
        ... on MarkdownMetadataEntry { mdStr } ... on UrlMetadataEntry { url } } }
    } }
  } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { name allTopLevelResourceDetails {
    name configuredValues { key value } } } } }
}
"""


@pytest.mark.timeout(600)
def test_no_password_is_in_any_file_log_or_output_after_provoked_failures(
    environment: dict[str, str],
    server: PostgresTarget,
    instance: DagsterInstance,
    tlc: TlcHost,
    programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    secrets = {
        "warehouse": "S3cret-of-the/warehouse:1",
        "storage": "S3cret-of-the-storage",
        "embedded": server.password,
        "alerts": "S3cret-of-the-alerts",
    }
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role in ("warehouse", "storage"):
            connection.execute(
                sql.SQL("create role {} login superuser password {}").format(
                    sql.Identifier(f"leak_{role}"), sql.Literal(secrets[role])
                )
            )
    try:
        storage = replace(server, dbname=str(psycopg.conninfo.conninfo_to_dict(get_storage_url(environment))["dbname"]))
        variables = {
            "TAXI_HOME": str(home),
            "PG_HOST": server.host,
            "PG_PORT": str(server.port),
            "PG_USER": "leak_warehouse",
            "PG_PASSWORD": secrets["warehouse"],
            "PG_DBNAME": server.dbname,
            "DAGSTER_POSTGRES_URL": replace(storage, user="leak_storage", password=secrets["storage"]).url(),
            "TAXI_ALERT_URLS": f"json://leak:{secrets['alerts']}@127.0.0.1:9/",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        output, command_lines = "", set()

        def run(*arguments: str) -> int:
            nonlocal output
            program = programs.taxi(*arguments)
            while program.poll() is None:
                for process in psutil.process_iter(["cmdline"]):
                    command_lines.add(" ".join(process.info["cmdline"] or []))
                try:
                    output += program.communicate(timeout=0.2)[0]
                except subprocess.TimeoutExpired:
                    continue
            return program.returncode

        # A good backfill; then one with an HTML file, an unpublished month, and a table that differs from its model.
        tlc.publish(JANUARY)
        assert run("backfill", "2024-01", "2024-01") == 0
        tlc.http.on(month_path(date(2024, 2, 1)), ok(b"<html>"))
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("alter table {} drop column fare_amount cascade").format(
                    sql.Identifier(environment["PG_SCHEMA"], "fct_trips")
                )
            )
        assert run("backfill", "2024-01", "2024-03", "--reprocess", "completed") == 1
        assert run("status") == 1
        # No server listens at the URL for alerts.
        assert run("alert-test") == 1
        # A server that refuses the login, and a port without a server.
        monkeypatch.setenv("PG_USER", "leak_nobody")
        assert run("backfill", "2024-01", "2024-01") != 0
        monkeypatch.setenv("PG_USER", "leak_warehouse")
        monkeypatch.setenv("PG_PORT", "9")
        assert run("backfill", "2024-01", "2024-01") != 0
        monkeypatch.setenv("PG_PORT", str(server.port))
        monkeypatch.setenv("PG_SSLMODE", "nonsense")
        assert run("status") != 0
        monkeypatch.delenv("PG_SSLMODE")
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"mysql://leak:{secrets['storage']}@host/x")
        assert run("status") != 0
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", f"postgresql://leak:{secrets['storage']}@127.0.0.1:9/x")
        assert run("status") != 0
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", variables["DAGSTER_POSTGRES_URL"])
        monkeypatch.setenv(
            "TAXI_ALERT_URLS", f"{variables['TAXI_ALERT_URLS']} nonsense://leak:{secrets['alerts']}@host"
        )
        assert run("status") != 0
        monkeypatch.setenv("TAXI_ALERT_URLS", variables["TAXI_ALERT_URLS"])

        port = postmaster.free_port()
        web = programs.start(*WEBSERVER, "-p", str(port))
        answer = until(lambda: query_graphql(port, RUNS), 90)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as page:
            answer = f"{answer} {page.read().decode()}"
        for process in psutil.process_iter(["cmdline"]):
            command_lines.add(" ".join(process.info["cmdline"] or []))
        for process in process_tree(web.pid):
            process.kill()
        output += answer + web.communicate()[0]
        assert "FAILURE" in output
        assert "2024-02" in output

        # Each secret as it is, and percent-encoded as in a URL.
        forms = [(name, form) for name, secret in secrets.items() for form in {secret, quote(secret, safe="")}]
        stored, lines = dump(storage), "\n".join(command_lines)
        found = [f"{name} in an output or in the UI" for name, form in forms if form in output]
        found += [f"{name} on a command line" for name, form in forms if form in lines]
        found += [f"{name} in the storage" for name, form in forms if form in stored]
        for path in [*home.rglob("*"), *Path(environment["TAXI_HOME"]).glob("postgres/*.json")]:
            if path.is_file():
                content = path.read_bytes()
                # Only the embedded server's file may contain its password, and only its owner may read the file.
                is_allowed = path.name == "server.json" and stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
                found += [f"{name} in {path}" for name, form in forms if form.encode() in content and not is_allowed]
        assert found == []
    finally:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop owned by leak_warehouse, leak_storage cascade; drop role leak_warehouse, leak_storage")
            )


WEBSERVER = [sys.executable, "-m", "dagster_webserver", "-m", "taxi_orchestration.definitions"]
LAUNCH = """
mutation { launchPipelineExecution(executionParams: {
  selector: {repositoryName: "__repository__", repositoryLocationName: "any", pipelineName: "taxi_pipeline"}
}) { __typename } }
"""
DELETE = 'mutation { deletePipelineRun(runId: "%s") { __typename } }'


def test_the_ui_listens_on_loopback_only_and_a_read_only_ui_changes_nothing(
    instance: DagsterInstance, programs: Programs
) -> None:
    run_id = instance.create_run_for_job(empty_job).run_id
    port = postmaster.free_port()
    # Without the project's code, which would double the time of the start.
    web = programs.start(sys.executable, "-m", "dagster_webserver", "--read-only", "--empty-workspace", "-p", str(port))
    shown = until(lambda: query_graphql(port, RUNS), 90)
    assert run_id in str(shown)
    listening = {
        connection.laddr.ip
        for process in process_tree(web.pid)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    for forbidden in (LAUNCH, DELETE % run_id):
        assert "UnauthorizedError" in str(query_graphql(port, forbidden))
    assert [run.run_id for run in instance.get_runs()] == [run_id]


@as_root
def test_another_user_of_the_machine_cannot_connect_to_the_embedded_server(home: Path, server: PostgresTarget) -> None:
    def try_access() -> str:
        """Return the results of logins with guessed passwords, and of reading the password file."""
        results = []
        for password in ("", server.user, "postgres"):
            try:
                psycopg.connect(replace(server, password=password).url()).close()
                results.append("connected")
            except psycopg.OperationalError as error:
                results.append("refused" if "password" in str(error) else str(error))
        try:
            results.append((home / "postgres" / "server.json").read_text())
        except PermissionError:
            results.append("not read")
        return " ".join(results)

    assert call_as(OTHER_UID, try_access) == "refused refused refused not read"


def get_storage_url(environment: dict[str, str]) -> str:
    return environment["DAGSTER_POSTGRES_URL"].replace("+psycopg2", "")


def query_graphql(port: int, query: str) -> str | None:
    """Return the webserver's response as text, or None if there is no response."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.read().decode())
    except (ConnectionError, urllib.error.URLError, TimeoutError):
        return None


def dump(target: PostgresTarget) -> str:
    """Return every row of every table of a database as text."""
    with psycopg.connect(target.url()) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        rows = []
        for (name,) in tables:
            with connection.cursor().copy(sql.SQL("copy {} to stdout").format(sql.Identifier(name))) as copy:
                rows += [bytes(row).decode() for row in copy]
    assert len(rows) > 100
    return "".join(rows)
