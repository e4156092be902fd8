"""Opening Dagster's instance as `dagster dev` in this checkout does."""

from dagster import DagsterError, DagsterInstance
from yaml import YAMLError

from taxi_orchestration.settings import PROJECT_DIRECTORY, SettingsError, dagster_home


def open_instance() -> DagsterInstance:
    """Open Dagster's instance: of DAGSTER_HOME if set, else of this checkout.

    Raises SettingsError where its configuration is unusable.
    """
    home = dagster_home()
    try:
        return DagsterInstance.get() if home else DagsterInstance.from_config(str(PROJECT_DIRECTORY))
    except (YAMLError, DagsterError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"{home or PROJECT_DIRECTORY}/dagster.yaml cannot be used: {reason}. Use the dagster.yaml of the checkout."
        ) from error
