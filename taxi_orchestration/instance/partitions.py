"""The months as Dagster's partitions."""

from datetime import date

from dagster import TimeWindowPartitionsDefinition

from taxi_orchestration.months import DAY_OF_PUBLICATION, KEY_FORMAT
from taxi_orchestration.tlc.dataset import DATASET


def monthly_partitions(first: date = DATASET.first_month) -> TimeWindowPartitionsDefinition:
    """Return the partitions from `first` to the newest month that can be published (months.newest_month).

    Dagster's time windows begin in mid-month, so that a partition appears when its file can be published; nothing reads
    the windows.
    """
    return TimeWindowPartitionsDefinition(
        start=first.strftime(KEY_FORMAT),
        fmt=KEY_FORMAT,
        cron_schedule=f"0 0 {DAY_OF_PUBLICATION} * *",
        end_offset=-1,
    )
