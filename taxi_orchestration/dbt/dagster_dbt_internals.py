"""What the project needs of dagster-dbt that dagster-dbt does not export: imported here, and nowhere else.

An upgrade of dagster-dbt that moves or changes one of these fails the test of this module.
"""

from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

__all__ = ["DbtCoreCliEventMessage", "get_asset_check_key_for_test"]
