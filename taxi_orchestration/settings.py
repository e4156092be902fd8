"""Every environment variable that the project reads, validated, in one frozen object."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from dotenv import load_dotenv
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from taxi_orchestration.tlc.dataset import DATASET

PROJECT_DIRECTORY = Path(__file__).resolve().parent.parent
DBT_PROJECT_DIRECTORY = PROJECT_DIRECTORY / "dbt_project"

# The schema of a student, and the default schema. Assets of the default schema have no prefix.
_SCHEMA_OF = "dagster_"
# The embedded server's account must be able to enter a home of root; the files inside have modes of their own.
HOME_MODE = 0o711 if os.geteuid() == 0 else 0o700
DEFAULT_STUDENT = "default"
DEFAULT_SCHEMA = f"{_SCHEMA_OF}{DEFAULT_STUDENT}"
# The name of the code location of the default schema, as in workspace.yaml.
LOCATION = "taxi_orchestration"

# PostgreSQL truncates identifiers at 63 bytes; lower-case names need no quotes.
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
TLC_BASE_URL = "https://d37ci6vzurychx.cloudfront.net"
"""The TLC's own download host."""
LOCK_TIMEOUT = "60s"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# libpq's variables for the format of values: the project's sessions set these, and PgBouncer refuses PGGEQO.
SESSION_VARIABLES = ("PGCLIENTENCODING", "PGDATESTYLE", "PGGEQO", "PGTZ")

# The directory of Docker's and Kubernetes' secret files: a file named as the variable in lower case has its value.
SECRETS_DIRECTORY = Path("/run/secrets")


class SettingsError(Exception):
    """An environment variable that cannot be used; the message names the variable and what to set."""


def check_base_url(base_url: str) -> str:
    """Return the base URL without a trailing slash. Raises ValueError if it is not a plain http or https address."""
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not base_url.isprintable() or " " in base_url:
        raise ValueError("must be an http or https address such as https://host.example")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must not contain a user, a password, a query or a fragment")
    return base_url.rstrip("/")


def parse_alert_urls(text: str) -> list[str]:
    """Return the URLs in a text separated by commas or spaces. Raises ValueError for a URL of no known service."""
    # Imported here: apprise loads a hundred services, and most processes send no alerts.
    import apprise
    from apprise.utils.parse import parse_urls

    # A log line of apprise may contain an address with its password.
    apprise.logger.propagate = False
    urls: list[str] = parse_urls(text)
    with apprise.LogCapture(level=apprise.logging.CRITICAL):
        unknown = [n for n, url in enumerate(urls, 1) if apprise.Apprise.instantiate(url) is None]
    if unknown or not urls:
        # The message omits the URL, which contains tokens and passwords.
        which = f"number {', '.join(map(str, unknown))} of {len(urls)}" if urls else "none of it"
        raise ValueError(
            "must be URLs of services in apprise's form, for example json://host/path or mailtos://user:"
            f"password@host, separated by commas or spaces; {which if unknown else 'it'} is not one"
        )
    return urls


@dataclass(frozen=True)
class PostgresTarget:
    """One database of one PostgreSQL server, and the login. `repr` hides the password."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    dbname: str
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    lock_timeout: str = LOCK_TIMEOUT
    """The time for which a transaction waits for a lock of another session before it fails and names the holder."""
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Further parameters of libpq, which take precedence over those of the environment."""

    @property
    def place(self) -> str:
        """Return user, host, port and database for messages, without the password."""
        return f"{self.user}@{self.host}:{self.port}/{self.dbname}"

    def url(self, driver: str = "postgresql", search_path: str | None = None) -> str:
        """Return the libpq URL, password included: for programs, never for logs."""
        options = {"options": f"-csearch_path={search_path}"} if search_path else {}
        login = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}@" if self.user else ""
        return f"{driver}://{login}{self._at}?{_query({**self._tls, **options})}"

    def jdbc_url(self, search_path: str) -> str:
        """Return the URL for the JDBC driver, which takes the login as parameters and the search_path as a setting."""
        login = {"user": self.user, "password": self.password}
        return f"jdbc:postgresql://{self._at}?{_query({**login, **self._tls, 'currentSchema': search_path})}"

    @property
    def _at(self) -> str:
        # The directory of a socket has slashes, which would end the host of a URL.
        host = f"[{self.host}]" if ":" in self.host else quote(self.host, safe="")
        return f"{host}:{self.port}/{quote(self.dbname, safe='')}"

    @property
    def _tls(self) -> dict[str, str]:
        return {"sslmode": self.sslmode} | ({"sslrootcert": self.sslrootcert} if self.sslrootcert else {})

    def environment(self) -> dict[str, str]:
        """Return the target as libpq's environment variables, for psql and similar programs."""
        login = {"PGUSER": self.user, "PGPASSWORD": self.password}
        tls = {f"PG{name.upper()}": value for name, value in self._tls.items()}
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGDATABASE": self.dbname} | login | tls


# As SQLAlchemy reads it: a password may have every character but @.
_STORAGE_URL = re.compile(
    r"postgres(ql)?(\+\w+)?://((?P<user>[^:/@]*)(:(?P<password>[^@]*))?@)?"
    r"(?P<host>\[[^]]+\]|[^:/?]+)(:(?P<port>\d+))?/(?P<dbname>[^?]+)(\?(?P<query>.*))?"
)


def _query(parameters: Mapping[str, str]) -> str:
    return urlencode(parameters, quote_via=quote)


class Settings(BaseSettings):
    """The environment variables: the names of the fields in capitals. An empty variable counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True, populate_by_name=True, extra="ignore")

    tlc_base_url: Annotated[str, AfterValidator(check_base_url)] = TLC_BASE_URL
    taxi_home: Path = PROJECT_DIRECTORY / ".taxi"

    pg_host: str | None = None
    pg_port: int = Field(default=5432, ge=1, le=65535)
    pg_user: str | None = None
    pg_password: SecretStr | None = None
    pg_dbname: str | None = None
    pg_sslmode: str | None = None
    pg_sslrootcert: Path | None = None

    dagster_student: str = DEFAULT_STUDENT
    pg_schema: str | None = None
    dagster_postgres_url: SecretStr | None = None

    taxi_first_month: date | None = None
    taxi_months_per_run: int | None = Field(default=None, ge=1)
    taxi_reissue_months: int = Field(default=24, ge=0, le=600)
    taxi_lock_timeout: str = LOCK_TIMEOUT
    taxi_schedule_cron: str = "0 6 1 * *"

    taxi_alert_urls: SecretStr | None = None
    taxi_ui_url: str = "http://127.0.0.1:3000"

    @field_validator("taxi_alert_urls")
    @classmethod
    def _known_services(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_alert_urls(value.get_secret_value())
        return value

    @field_validator("taxi_first_month", mode="before")
    @classmethod
    def _month(cls, value: object) -> object:
        if isinstance(value, str):
            if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", value):
                raise ValueError("must be a month, written as YYYY-MM, for example 2024-01")
            return f"{value}-01"
        return value

    @field_validator("taxi_lock_timeout")
    @classmethod
    def _duration(cls, value: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]{0,5}(ms|s|min)", value):
            raise ValueError("must be a duration as PostgreSQL writes it, for example 500ms, 60s or 5min")
        return value

    @field_validator("taxi_ui_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        url = urlsplit(value)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("must be the address at which you open the UI, for example http://127.0.0.1:3000")
        return value.rstrip("/")

    @field_validator("taxi_home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        try:
            return value.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(f"{value} begins with the ~ of a user without a home directory") from error

    @field_validator("pg_sslmode")
    @classmethod
    def _known_sslmode(cls, value: str | None) -> str | None:
        if value is not None and value not in SSL_MODES:
            raise ValueError(f"must be one of {', '.join(SSL_MODES)}")
        return value

    @field_validator("pg_dbname")
    @classmethod
    def _quotable(cls, value: str | None) -> str | None:
        # dbt inserts the name unescaped between quotes of both kinds.
        if value is not None and (not value.isprintable() or set(value) & set("'\"\\") or len(value.encode()) > 63):
            raise ValueError("must be a database name of at most 63 bytes without quotes, which dbt does not escape")
        return value

    @field_validator("dagster_student", "pg_schema")
    @classmethod
    def _plain_identifier(cls, value: str | None) -> str | None:
        # A student's name may begin with a digit: the schema is `dagster_<student>`.
        if value is not None and not IDENTIFIER.fullmatch(value if value[:1].isalpha() else f"_{value}"):
            raise ValueError("must be a plain name: lower-case letters a-z, digits and _, at most 63 characters")
        return value

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        required = {"PG_HOST": self.pg_host, "PG_USER": self.pg_user, "PG_PASSWORD": self.pg_password}
        required["PG_DBNAME"] = self.pg_dbname
        missing = [name for name, value in required.items() if value is None]
        if missing and len(missing) < len(required):
            raise ValueError(
                f"{', '.join(missing)} not set: an external PostgreSQL needs {', '.join(required)} together; "
                "without any of them the embedded PostgreSQL is used"
            )
        taken = self.schema_name.startswith("pg_") or self.schema_name == "information_schema"
        if not IDENTIFIER.fullmatch(self.schema_name) or taken:
            raise ValueError(
                f"the schema would be {self.schema_name!r}: PG_SCHEMA must be a plain name, lower-case letters a-z, "
                "digits and _, at most 63 characters, not beginning with a digit or pg_ and not information_schema"
            )
        return self

    @property
    def first_month(self) -> date:
        """Return the first partition: TAXI_FIRST_MONTH, or the first month of the data set."""
        return max(DATASET.first_month, self.taxi_first_month or DATASET.first_month)

    @property
    def schema_name(self) -> str:
        """Return the schema of the tables: PG_SCHEMA, or the student's schema."""
        return self.pg_schema or f"{_SCHEMA_OF}{self.dagster_student}"

    @property
    def search_path(self) -> str:
        """Return PostgreSQL's search_path for people and other programs."""
        return f"{self.schema_name},public"

    @property
    def student(self) -> str | None:
        """Return the student of the schema, as `student_of` does."""
        return student_of(self.schema_name)

    @property
    def location_name(self) -> str:
        """Return the name of the code location: the student's name, or LOCATION for the default schema."""
        return self.student or LOCATION

    @cached_property
    def alert_urls(self) -> tuple[SecretStr, ...]:
        """Return the services to alert, as apprise's URLs; empty if no alerts are sent."""
        if self.taxi_alert_urls is None:
            return ()
        return tuple(map(SecretStr, parse_alert_urls(self.taxi_alert_urls.get_secret_value())))

    @cached_property
    def warehouse(self) -> PostgresTarget | None:
        """Return the PostgreSQL of the PG_ variables; None for the embedded PostgreSQL."""
        if self.pg_host is None or self.pg_user is None or self.pg_password is None or self.pg_dbname is None:
            return None
        return PostgresTarget(
            host=self.pg_host,
            port=self.pg_port,
            user=self.pg_user,
            password=self.pg_password.get_secret_value(),
            dbname=self.pg_dbname,
            # A password that leaves the machine is encrypted, unless PG_SSLMODE is set otherwise.
            sslmode=self.pg_sslmode or ("prefer" if is_local(self.pg_host) else "require"),
            sslrootcert=str(self.pg_sslrootcert) if self.pg_sslrootcert else None,
            lock_timeout=self.taxi_lock_timeout,
        )

    @property
    def storage(self) -> PostgresTarget | None:
        """Return the PostgreSQL of Dagster's storage, DAGSTER_POSTGRES_URL; None for the embedded PostgreSQL.

        The TLS settings of the warehouse count for a remote host where the URL has none of its own. Raises
        SettingsError for a URL of another form, or of another database system.
        """
        if self.dagster_postgres_url is None:
            return None
        url = _STORAGE_URL.fullmatch(self.dagster_postgres_url.get_secret_value())
        if url is None:
            raise SettingsError("DAGSTER_POSTGRES_URL must look like postgresql://user:password@host:5432/database.")
        user, password, host, dbname = (unquote(url[part] or "") for part in ("user", "password", "host", "dbname"))
        host = host.strip("[]")
        tls: dict[str, str] = {}
        if not is_local(host):
            tls["sslmode"] = self.pg_sslmode or "require"
            if self.pg_sslrootcert:
                tls["sslrootcert"] = str(self.pg_sslrootcert)
        own = dict(parse_qsl(url["query"]))
        parameters = own if "sslmode" in own else tls | own
        return PostgresTarget(
            host=host,
            port=int(url["port"] or 5432),
            user=user,
            password=password,
            dbname=dbname,
            sslmode=parameters.pop("sslmode", "prefer"),
            sslrootcert=parameters.pop("sslrootcert", None),
            parameters=parameters,
        )


def schema_of_student(student: str) -> str:
    """Return the schema of a student."""
    return f"{_SCHEMA_OF}{student}"


def student_of(schema: str) -> str | None:
    """Return the student of a schema, the prefix of the student's assets; None for the default schema."""
    return None if schema == DEFAULT_SCHEMA else schema.removeprefix(_SCHEMA_OF) or schema


def is_local(host: str) -> bool:
    """Return whether connections to this host stay on this machine."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**given: Any) -> Settings:
    """Load the settings from this process's environment. Raises SettingsError with a line for each invalid variable.

    `given` takes precedence over the environment. Variables of libpq that concern no server of these settings are
    removed from the environment.
    """
    try:
        # pydantic-settings warns of a missing directory. A variable that is set takes precedence over a file.
        secrets = SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None
        settings = Settings(_secrets_dir=secrets, **given)  # type: ignore[call-arg]
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read: {error.strerror}. Make it readable for the account that runs Dagster."
        ) from None
    except ValidationError as error:
        # The message omits the value, which may be a password.
        problems = (
            f"{str(item['loc'][0]).upper() + ' ' if item['loc'] else ''}{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError("The environment cannot be used:\n" + "\n".join(f"  {p}" for p in problems)) from None
    _drop_libpq_variables(settings)
    return settings


def _drop_libpq_variables(settings: Settings) -> None:
    # Before the first connection: psycopg, psycopg2 in dbt and in Dagster's storage, and psql read these variables.
    # Variables of a PostgreSQL server are removed too; those of this project begin with PG_.
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PG_")]:
        if settings.warehouse is None or name in SESSION_VARIABLES:
            del os.environ[name]


def read_dotenv() -> None:
    """Load the checkout's .env into this process's environment, as Dagster does when it is started in the checkout.

    Without the same .env, `taxi` and Dagster would use two warehouses. Raises SettingsError for an unreadable .env.
    """
    path = PROJECT_DIRECTORY / ".env"
    try:
        content = path.read_bytes() if path.is_file() else b""
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(
            f"{path} cannot be read: {error.strerror}. Make it readable for this account: chown and chmod 600."
        ) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        written = "is in UTF-16, as PowerShell's > writes it" if b"\0" in content else "is not in UTF-8"
        raise SettingsError(
            f"{path} {written}: save it as UTF-8, in PowerShell by (Get-Content .env) | Set-Content .env -Encoding utf8"
        )
    load_dotenv(stream=StringIO(text), override=True)


def dagster_home() -> Path | None:
    """Return DAGSTER_HOME; None if it is not set. Raises SettingsError for one without a usable dagster.yaml."""
    value = os.environ.get("DAGSTER_HOME")
    if not value:
        return None
    home = Path(value).expanduser()
    example = PROJECT_DIRECTORY / "dagster.yaml"
    found = (
        "is not an absolute path"
        if not home.is_absolute()
        else "is no directory"
        if not home.is_dir()
        else "has no dagster.yaml"
        if not (home / "dagster.yaml").is_file()
        else None
    )
    if found:
        raise SettingsError(
            f"DAGSTER_HOME {value} {found}. Unset it to use the dagster.yaml of the checkout, or set it to a "
            f"directory with a dagster.yaml (cp {example} DIRECTORY)."
        )
    return home


def make_home(settings: Settings) -> Path:
    """Return TAXI_HOME, created if missing, for its owner alone. Raises SettingsError if it is not writable."""
    home = settings.taxi_home
    try:
        home.mkdir(HOME_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"TAXI_HOME {home} cannot be created: {error.strerror}. Set it to a writable directory."
        ) from None
    if not os.access(home, os.W_OK | os.X_OK):
        raise SettingsError(f"TAXI_HOME {home} cannot be written. Set it to a writable directory.")
    return home
