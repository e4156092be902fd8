"""What our sessions depend on, said by themselves: a role, a database or a server may have any defaults.

It is set in each transaction. A pooler that lends a session for one transaction alone, as PgBouncer does, refuses what
is said at start-up, and what is set for the whole session would stay for whoever gets that session next.
"""

from collections.abc import Mapping
from functools import cache
from typing import LiteralString, cast

from psycopg import sql

# A setting of no meaning, by which a session shows that what it was started with has reached the server.
MARK = "taxi.session"
MARKED = f"select current_setting('{MARK}', true) = 'on'"
POOLER_REFUSES = "unsupported startup parameter"

# PostgreSQL's own defaults, but for the time zone and jit.
SETTINGS: Mapping[str, str] = {
    # How a value is spelled.
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    # How a statement, and the name of a type or a table in it, is read and spelled.
    "search_path": '"$user", public',
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # How long it takes: raw_trips has a partition, and so an expression to compile, for each month.
    "jit": "off",
    "enable_partition_pruning": "on",
    "constraint_exclusion": "partition",
    "plan_cache_mode": "auto",
}


@cache
def transaction_settings(lock_timeout: str, *, snapshot: bool = False) -> sql.SQL:
    """What a transaction begins with: its isolation, and every setting until its end, in one round trip."""
    settings = {**SETTINGS, "lock_timeout": lock_timeout}.items()
    calls = sql.SQL(", ").join(sql.SQL("set_config({}, {}, true)").format(name, value) for name, value in settings)
    # To compose it each time would take longer than the server takes with it.
    isolation = sql.SQL("repeatable read" if snapshot else "read committed")
    text = sql.SQL("set transaction isolation level {}; select {}").format(isolation, calls).as_string()
    return sql.SQL(cast(LiteralString, text))


def startup_options() -> str:
    """The same for a whole session, as libpq's `options`: for those that no pooler stands before."""
    settings = {**SETTINGS, "default_transaction_isolation": "read committed"}
    # It says where the tables are, for those who do not name their schema.
    del settings["search_path"]
    words = (f"{name}={value}".replace(" ", "\\ ") for name, value in settings.items())
    return " ".join(f"-c {word}" for word in (*words, f"{MARK}=on"))
