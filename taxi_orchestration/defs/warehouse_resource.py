"""The warehouse as a resource, so that the UI shows where the tables are. Nothing connects before a step opens it."""

import dagster as dg
from pydantic import Field

from taxi_orchestration.defs.settings_resource import SettingsResource
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.warehouse import Warehouse, describe_warehouse, open_warehouse


class WarehouseResource(dg.ConfigurableResource):
    """The PostgreSQL and the schema that hold the tables, as the variables of the environment say."""

    host: str
    port: str
    database: str
    # pydantic has a method of that name.
    schema_name: str = Field(alias="schema")
    user: str
    settings: dg.ResourceDependency[Settings]

    def open(self) -> Warehouse:
        """The warehouse; the embedded server is started if it is the one that is meant and does not run."""
        return open_warehouse(self.settings)


def build_warehouse_resource(settings: Settings, resource: SettingsResource) -> WarehouseResource:
    """The resource that shows the warehouse of `settings`, which runs get from `resource`. Starts no server."""
    target = describe_warehouse(settings).target
    return WarehouseResource(
        host=target.host,
        # The embedded server finds a free one when it starts; `taxi url` prints it.
        port=str(target.port or "embedded"),
        database=target.dbname,
        schema=settings.schema_name,
        user=target.user,
        settings=resource,
    )
