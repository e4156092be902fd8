"""A job for runs that are stored and never executed."""

from dagster import job


@job
def empty_job() -> None:
    """No step: runs of this job are stored and never executed."""
