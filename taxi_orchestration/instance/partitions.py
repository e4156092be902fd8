"""The months as Dagster's partitions."""

from dagster import TimeWindowPartitionsDefinition

from taxi_orchestration.months import KEY_FORMAT
from taxi_orchestration.tlc.dataset import DATASET

# The month that is not over yet is no partition: its file cannot exist.
monthly_partitions = TimeWindowPartitionsDefinition(
    start=DATASET.first_month.strftime(KEY_FORMAT), fmt=KEY_FORMAT, cron_schedule="0 0 1 * *"
)
