"""A job for runs that only stand in the storage."""

from dagster import job


@job
def nothing() -> None:
    """For runs that only stand in the storage."""
