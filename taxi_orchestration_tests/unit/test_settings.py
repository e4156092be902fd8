"""Settings from environment variables: defaults, refused values, and secrets that are never shown."""

import os
import stat
from pathlib import Path

import psycopg
import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY, PostgresTarget, SettingsError, load_settings, make_home

SERVER = {"PG_HOST": "db.example", "PG_USER": "ada", "PG_PASSWORD": "s3cret/@:", "PG_DBNAME": "trips"}


def set_variables(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def load_server() -> PostgresTarget:
    """Return the server that the environment variables describe."""
    warehouse = load_settings().warehouse
    assert warehouse
    return warehouse


def get_error_message(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return the message of the error that these variables cause."""
    set_variables(monkeypatch, **variables)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    return str(caught.value)


def test_no_variable_is_required() -> None:
    settings = load_settings()
    assert settings.tlc_base_url == "https://d37ci6vzurychx.cloudfront.net"
    assert settings.taxi_home == PROJECT_DIRECTORY / ".taxi"
    assert settings.schema_name == "dagster_default"
    assert settings.warehouse is None
    assert settings.dagster_postgres_url is None


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = ("TLC_BASE_URL", "TAXI_HOME", "PG_HOST", "PG_PORT", "PG_PASSWORD", "PG_SCHEMA", "DAGSTER_STUDENT")
    set_variables(monkeypatch, **dict.fromkeys(empty, ""))
    settings = load_settings()
    assert settings.tlc_base_url.startswith("https://")
    assert settings.taxi_home == PROJECT_DIRECTORY / ".taxi"
    assert settings.schema_name == "dagster_default"
    assert settings.warehouse is None


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_variables(monkeypatch, **SERVER, PG_PORT="6543", PG_SSLMODE="verify-full", PG_SSLROOTCERT="/etc/ca.pem")
    set_variables(monkeypatch, TLC_BASE_URL="http://127.0.0.1:8901/", TAXI_HOME=str(tmp_path), DAGSTER_STUDENT="ada")
    set_variables(monkeypatch, DAGSTER_POSTGRES_URL="postgresql://d:p@h/d")
    set_variables(monkeypatch, TAXI_LOCK_TIMEOUT="500ms", TAXI_MONTHS_PER_RUN="6")
    settings = load_settings()
    assert settings.warehouse == PostgresTarget(
        "db.example", 6543, "ada", "s3cret/@:", "trips", "verify-full", "/etc/ca.pem", lock_timeout="500ms"
    )
    assert settings.taxi_months_per_run == 6
    assert settings.tlc_base_url == "http://127.0.0.1:8901"
    assert settings.taxi_home == tmp_path
    assert settings.schema_name == "dagster_ada"
    assert settings.dagster_postgres_url is not None
    assert settings.dagster_postgres_url.get_secret_value() == "postgresql://d:p@h/d"


def test_the_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.pg_schema = "other"


def test_a_relative_home_and_a_tilde_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    set_variables(monkeypatch, TAXI_HOME="state")
    assert load_settings().taxi_home == tmp_path / "state"
    set_variables(monkeypatch, TAXI_HOME="~/state")
    assert load_settings().taxi_home == Path("/somewhere/state")


@pytest.mark.parametrize("missing", ["PG_HOST", "PG_USER", "PG_PASSWORD", "PG_DBNAME"])
def test_an_incomplete_server_is_refused_and_the_error_names_the_missing_variable(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    message = get_error_message(monkeypatch, **{name: value for name, value in SERVER.items() if name != missing})
    assert f"{missing} not set" in message
    assert "PG_HOST, PG_USER, PG_PASSWORD, PG_DBNAME together" in message
    assert SERVER["PG_PASSWORD"] not in message


def test_for_a_server_with_only_its_host_all_missing_variables_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "PG_USER, PG_PASSWORD, PG_DBNAME not set" in get_error_message(monkeypatch, PG_HOST="db.example")


INVALID = {
    "TAXI_HOME": ["~nobody_of_this_name/state"],
    "PG_PORT": ["0", "65536", "-1", "five", "5432.5"],
    "TAXI_LOCK_TIMEOUT": ["0s", "60", "a minute", "1h; select 1"],
    "TAXI_MONTHS_PER_RUN": ["0", "-1", "six", "1.5"],
    "PG_SSLMODE": ["on", "REQUIRE", "verify_full"],
    "PG_SCHEMA": ["pg_catalog", "pg_temp", "pg_mine", "1abc", "information_schema", "x" * 64],
    "TLC_BASE_URL": [
        *("ftp://host", "file:///etc/passwd", "host", "//host", "http://", "https:///path", "javascript:alert(1)"),
        *("http://[::1", "http://host:99999", "http://host:port", "http://ada:pw@host", "http://host/?a=1"),
        *("http://host/#a", "http://ho st"),
    ],
}


@pytest.mark.parametrize(("variable", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_an_invalid_value_is_refused_and_the_error_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert variable in get_error_message(monkeypatch, **SERVER, **{variable: value})


def test_a_secret_is_read_from_its_file_unless_its_variable_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("taxi_orchestration.settings.SECRETS_DIRECTORY", tmp_path)
    (tmp_path / "pg_password").write_text("of the file\n")
    set_variables(monkeypatch, **SERVER)
    assert load_server().password == SERVER["PG_PASSWORD"]
    monkeypatch.delenv("PG_PASSWORD")
    assert load_server().password == "of the file"


@pytest.mark.parametrize(
    ("host", "mode"),
    [
        *(("localhost", "prefer"), ("127.0.0.1", "prefer"), ("127.9.9.9", "prefer"), ("::1", "prefer")),
        *(("/var/run/postgresql", "prefer"), ("db.example", "require"), ("10.0.0.7", "require")),
        *(("localhost.example", "require"), ("2001:db8::1", "require")),
    ],
)
def test_connections_to_other_machines_require_tls_unless_pg_sslmode_is_set(
    monkeypatch: pytest.MonkeyPatch, host: str, mode: str
) -> None:
    set_variables(monkeypatch, **SERVER | {"PG_HOST": host})
    assert load_server().sslmode == mode
    set_variables(monkeypatch, PG_SSLMODE="disable")
    assert load_server().sslmode == "disable"


HOSTILE = [
    'x"; drop schema public; --',
    *("x'y", "x y", "x;y", "x.y", "x-y", "x\ny", "x\n", "x\\y", "x%y", "x$y", "x/../y", "{{ x }}", "X", "Ada"),
    *("аda", "ｘ", "ſchema", "x\u200b", "x\u0301", "é", "ﬁ", "x٣", "x²", "数"),
]


@pytest.mark.parametrize("variable", ["DAGSTER_STUDENT", "PG_SCHEMA"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_not_plain_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str, name: str) -> None:
    message = get_error_message(monkeypatch, **{variable: name})
    assert variable in message
    assert "plain name" in message


def test_names_up_to_postgresqls_limit_are_accepted_and_longer_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PG_SCHEMA="s" * 63)
    assert load_settings().schema_name == "s" * 63
    set_variables(monkeypatch, PG_SCHEMA="", DAGSTER_STUDENT="x" * 55)
    assert load_settings().schema_name == "dagster_" + "x" * 55
    assert "63 characters" in get_error_message(monkeypatch, DAGSTER_STUDENT="x" * 56)


def test_a_student_may_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, DAGSTER_STUDENT="4711")
    assert load_settings().schema_name == "dagster_4711"


def test_pg_schema_overrides_the_schema_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, DAGSTER_STUDENT="ada", PG_SCHEMA="taxi")
    assert load_settings().schema_name == "taxi"


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = get_error_message(monkeypatch, TLC_BASE_URL="ftp://host", PG_PORT="0", DAGSTER_STUDENT="O'Hara")
    for name in ("TLC_BASE_URL", "PG_PORT", "DAGSTER_STUDENT"):
        assert name in message


def test_no_representation_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, **SERVER, DAGSTER_POSTGRES_URL="postgresql://d:hidden@h/d")
    settings = load_settings()
    shown = f"{settings!r} {settings} {settings.warehouse!r} {settings.warehouse} {load_server().place}"
    assert "s3cret" not in shown
    assert "hidden" not in shown
    assert "db.example" in shown


def test_no_error_message_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    message = get_error_message(monkeypatch, **SERVER, PG_PORT="0", PG_SSLMODE="s3cret-by-mistake")
    assert "PG_SSLMODE must be one of disable, allow, prefer, require, verify-ca, verify-full" in message
    assert "s3cret" not in message


def test_libpq_parses_the_url_into_the_values_of_the_target() -> None:
    target = PostgresTarget("::1", 5432, "a@b:c", "p/w?d#%& +", "d/b", "verify-ca", "/a dir/ca.pem")
    assert psycopg.conninfo.conninfo_to_dict(target.url()) == {
        "host": "::1",
        "port": "5432",
        "user": "a@b:c",
        "password": "p/w?d#%& +",
        "dbname": "d/b",
        "sslmode": "verify-ca",
        "sslrootcert": "/a dir/ca.pem",
    }


def test_a_home_that_does_not_exist_is_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    set_variables(monkeypatch, TAXI_HOME=str(tmp_path / "deep" / "state"))
    home = make_home(load_settings())
    # As root, the account of the embedded server must be able to enter the directory, but not to list it.
    assert stat.S_IMODE(home.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)


def test_a_home_that_cannot_be_created_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    set_variables(monkeypatch, TAXI_HOME=str(tmp_path / "file" / "state"))
    with pytest.raises(SettingsError, match=r"TAXI_HOME .*file/state cannot be created: Not a directory\. Set it to"):
        make_home(load_settings())


def test_a_home_that_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Root can write everywhere except in the file systems of the kernel.
    home = Path("/sys/kernel") if os.geteuid() == 0 else tmp_path
    if os.geteuid() != 0:
        home.chmod(0o500)
    set_variables(monkeypatch, TAXI_HOME=str(home / "state"))
    with pytest.raises(SettingsError, match=r"TAXI_HOME .* cannot be created: .* Set it to a writable directory"):
        make_home(load_settings())


def test_the_url_of_a_server_on_a_unix_socket_names_its_directory() -> None:
    target = PostgresTarget("/run/postgresql", 5432, "ada", "p w", "taxi")
    found = psycopg.conninfo.conninfo_to_dict(target.url())
    assert (found["host"], found["port"], found["dbname"]) == ("/run/postgresql", "5432", "taxi")
