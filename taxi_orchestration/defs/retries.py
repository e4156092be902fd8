"""How often a step is tried again by itself, and what its failure says."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Backoff, Failure, Jitter, RetryPolicy

from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.settings import SettingsError
from taxi_orchestration.tlc.errors import TlcError

# What PostgreSQL could not take now it may take in a minute. Downloads are retried by the client alone.
RETRIES = RetryPolicy(max_retries=3, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


@contextmanager
def translate_to_failure() -> Iterator[None]:
    """Turn an error that is written for people into a Failure, which the UI, `taxi` and alerts show as it is."""
    try:
        yield
    except (SettingsError, ServerError, TlcError, WarehouseError) as error:
        raise Failure(str(error), allow_retries=isinstance(error, WarehouseUnavailableError)) from error
