"""Dagster's own run launcher, which also knows the processes of runs that it did not start. Named in dagster.yaml.

With it the daemon's run monitoring fails the runs of killed processes within half a minute. The launcher that it
extends can tell only of processes that its own code server started, and forgets them with that.
"""

import os
import signal

from dagster import DagsterRun, DefaultRunLauncher

from taxi_orchestration.instance.dagster_internals import CheckRunHealthResult, WorkerStatus
from taxi_orchestration.instance.dagster_names import LAUNCHED_BY, TAXI_BACKFILL
from taxi_orchestration.instance.processes import is_orphaned, living_process


class TaxiRunLauncher(DefaultRunLauncher):
    """Starts runs as processes of the code server, and recognises those that were killed."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Run monitoring asks only a launcher that says so."""
        return True

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run that `taxi` executes in a terminal, as Ctrl-C there would; any other as Dagster does.

        The launcher that this one extends knows no way to it, and leaves such a run "canceling".
        """
        run = self._instance.get_run_by_id(run_id)
        if run and not run.is_finished and run.tags.get(LAUNCHED_BY) == TAXI_BACKFILL and (pid := living_process(run)):
            self._instance.report_run_canceling(run)
            os.kill(pid, signal.SIGINT)
            return True
        return super().terminate(run_id)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """A process that cannot be seen from here counts as running: its run is not ours to fail."""
        if is_orphaned(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process was killed, or its machine switched off")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
