"""The settings that each transaction sets itself, whatever the defaults of the role, database or server are.

A transaction pooler such as PgBouncer refuses startup options, and a setting for the whole session would stay for the
next client of that session.
"""

from collections.abc import Mapping
from functools import cache
from typing import LiteralString, cast

from psycopg import sql

# A setting without effect: a session that has it shows that startup options reach the server.
MARK = "taxi.session"
MARKED = f"select current_setting('{MARK}', true) = 'on'"
POOLER_REFUSES = "unsupported startup parameter"

# PostgreSQL's own defaults, but for the time zone and jit.
SETTINGS: Mapping[str, str] = {
    # The text form of values.
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    # The reading of statements and of the names in them.
    "search_path": '"$user", public',
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # Speed: raw_trips has a partition, and so an expression to compile, for each month.
    "jit": "off",
    "enable_partition_pruning": "on",
    "constraint_exclusion": "partition",
    "plan_cache_mode": "auto",
}


@cache
def transaction_settings(lock_timeout: str, *, snapshot: bool = False) -> sql.SQL:
    """Return the statements that begin a transaction, for one round trip: isolation level and local settings."""
    settings = {**SETTINGS, "lock_timeout": lock_timeout}.items()
    calls = sql.SQL(", ").join(sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in settings)
    # Cached as text: composing it takes longer than executing it.
    isolation = sql.SQL("repeatable read" if snapshot else "read committed")
    text = sql.SQL("set transaction isolation level {}; select {}").format(isolation, calls).as_string()
    return sql.SQL(cast(LiteralString, text))


def startup_options() -> str:
    """Return the settings as libpq's `options` for a whole session, for servers without a pooler in front."""
    settings = {**SETTINGS, "default_transaction_isolation": "read committed"}
    # The search_path locates the tables of clients that do not name a schema.
    del settings["search_path"]
    words = (f"{name}={value}".replace(" ", "\\ ") for name, value in settings.items())
    return " ".join(f"-c {word}" for word in (*words, f"{MARK}=on"))
