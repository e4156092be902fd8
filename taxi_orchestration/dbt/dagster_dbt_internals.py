"""The names of dagster-dbt that the project needs and dagster-dbt does not export, imported in this module alone.

An upgrade of dagster-dbt that moves or changes one of these names fails the test of this module.
"""

from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

__all__ = ["DbtCoreCliEventMessage", "get_asset_check_key_for_test"]
