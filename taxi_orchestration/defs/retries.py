"""The retry policy of steps, and the messages of their failures."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import Backoff, Failure, Jitter, RetryPolicy

from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.connection import WarehouseError, WarehouseUnavailableError
from taxi_orchestration.settings import SettingsError
from taxi_orchestration.tlc.errors import TlcError

# PostgreSQL may accept in a minute what it refuses now. The client alone retries downloads.
RETRIES = RetryPolicy(max_retries=3, delay=5, backoff=Backoff.EXPONENTIAL, jitter=Jitter.PLUS_MINUS)


@contextmanager
def translate_to_failure() -> Iterator[None]:
    """Translate an error written for people to a Failure, whose message the UI, `taxi` and alerts show unchanged."""
    try:
        yield
    except (SettingsError, ServerError, TlcError, WarehouseError) as error:
        raise Failure(str(error), allow_retries=isinstance(error, WarehouseUnavailableError)) from error
