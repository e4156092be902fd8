"""The statuses of months, read only from the warehouse and Dagster's storage."""

from datetime import date

from dagster import DagsterInstance

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.status import MonthStatus, compare_months, read_records
from taxi_orchestration.months import Window
from taxi_orchestration.warehouse.warehouse import Warehouse


def month_statuses(warehouse: Warehouse, instance: DagsterInstance, window: Window) -> dict[date, MonthStatus]:
    """Return the status of every month of the window."""
    records = read_records(instance, AssetKeys(warehouse.student), window.months)
    return compare_months(warehouse, records, window)
