"""Which PostgreSQL holds the warehouse: the one that the environment names, or the embedded one."""

from taxi_orchestration.postgres.server import WAREHOUSE_DATABASE, ensure_running
from taxi_orchestration.settings import PostgresTarget, Settings, make_home


def warehouse_target(settings: Settings) -> PostgresTarget:
    """The warehouse; the embedded server is started if it is the one that is meant and does not run."""
    return settings.warehouse or ensure_running(make_home(settings)).target(WAREHOUSE_DATABASE)


def warehouse_dbname(settings: Settings) -> str:
    """The warehouse's database by name, without starting anything."""
    return settings.warehouse.dbname if settings.warehouse else WAREHOUSE_DATABASE
