"""The warehouse as a resource: the UI shows its address. A step opens the connection."""

import dagster as dg
from pydantic import Field

from taxi_orchestration.defs.settings_resource import SettingsResource
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.warehouse import Warehouse, describe_warehouse, open_warehouse


class WarehouseResource(dg.ConfigurableResource):
    """The PostgreSQL and the schema of the tables, from the environment variables."""

    host: str
    port: str
    database: str
    # pydantic has a method `schema`.
    schema_name: str = Field(alias="schema")
    user: str
    settings: dg.ResourceDependency[Settings]

    def open(self) -> Warehouse:
        """Return the warehouse; start the embedded server if it is in use and does not run."""
        return open_warehouse(self.settings)


def build_warehouse_resource(settings: Settings, resource: SettingsResource) -> WarehouseResource:
    """Build the resource that shows the warehouse of `settings`, without starting a server."""
    target = describe_warehouse(settings).target
    return WarehouseResource(
        host=target.host,
        # The embedded server chooses a free port at its first start; `taxi url` prints the port.
        port=str(target.port or "embedded"),
        database=target.dbname,
        schema=settings.schema_name,
        user=target.user,
        settings=resource,
    )
