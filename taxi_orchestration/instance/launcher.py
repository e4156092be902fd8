"""Dagster's own run launcher, which also knows whether a run's process still lives. Named in dagster.yaml.

With it the daemon's run monitoring fails the runs of killed processes within half a minute. The launcher that it
extends can tell only of processes that its own code server started, and forgets them with that.
"""

from dagster import DagsterRun, DefaultRunLauncher

from taxi_orchestration.instance.dagster_internals import CheckRunHealthResult, WorkerStatus
from taxi_orchestration.instance.processes import is_orphaned


class TaxiRunLauncher(DefaultRunLauncher):
    """Starts runs as processes of the code server, and recognises those that were killed."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks only a launcher that says so."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """A process that cannot be seen from here counts as running: its run is not ours to fail."""
        if is_orphaned(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process was killed, or its machine switched off")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
