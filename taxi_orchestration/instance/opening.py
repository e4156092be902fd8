"""Opening Dagster's instance as `dagster dev` in this checkout does."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import DagsterError, DagsterInstance
from sqlalchemy.exc import OperationalError
from yaml import YAMLError

from taxi_orchestration.instance.dagster_internals import DagsterPostgresException
from taxi_orchestration.instance.storage import StorageError, find_reason
from taxi_orchestration.settings import PROJECT_DIRECTORY, SettingsError, dagster_home


@contextmanager
def open_instance() -> Iterator[DagsterInstance]:
    """Open Dagster's instance during the block: of DAGSTER_HOME if set, else of this checkout.

    Raises SettingsError where its configuration is unusable, StorageError where its storage fails during the block.
    """
    home = dagster_home()
    try:
        opened = DagsterInstance.get() if home else DagsterInstance.from_config(str(PROJECT_DIRECTORY))
    except (YAMLError, DagsterError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"{home or PROJECT_DIRECTORY}/dagster.yaml cannot be used: {reason}. Use the dagster.yaml of the checkout."
        ) from error
    try:
        with opened as instance:
            yield instance
    except (DagsterPostgresException, OperationalError) as error:
        _, reason = find_reason(error)
        raise StorageError(
            f"Dagster's storage failed: {reason}. Run the same command again when it works; it skips what is done."
        ) from error
