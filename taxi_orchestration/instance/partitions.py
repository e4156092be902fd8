"""The months as Dagster's partitions."""

from datetime import date

from dagster import TimeWindowPartitionsDefinition

from taxi_orchestration.months import DAY_OF_PUBLICATION, KEY_FORMAT
from taxi_orchestration.tlc.dataset import DATASET


def monthly_partitions(first: date = DATASET.first_month) -> TimeWindowPartitionsDefinition:
    """The months from `first` to the newest that can be out, as months.newest_month has it.

    Dagster's windows begin in the middle of a month so that a partition begins when its file can be out; nothing here
    reads them.
    """
    return TimeWindowPartitionsDefinition(
        start=first.strftime(KEY_FORMAT),
        fmt=KEY_FORMAT,
        cron_schedule=f"0 0 {DAY_OF_PUBLICATION} * *",
        end_offset=-1,
    )
