"""Dagster's instance, as `dagster dev` in this checkout opens it."""

from dagster import DagsterError, DagsterInstance
from yaml import YAMLError

from taxi_orchestration.settings import PROJECT_DIRECTORY, SettingsError, dagster_home


def open_instance() -> DagsterInstance:
    """Dagster's instance: that of DAGSTER_HOME where it is set, else that of this checkout, as for `dagster dev`.

    Raises SettingsError where there is none that can be used.
    """
    home = dagster_home()
    try:
        return DagsterInstance.get() if home else DagsterInstance.from_config(str(PROJECT_DIRECTORY))
    except (YAMLError, DagsterError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingsError(
            f"{home or PROJECT_DIRECTORY}/dagster.yaml cannot be used: {reason}. Take the one of the checkout."
        ) from error
