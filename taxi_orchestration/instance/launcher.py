"""Dagster's default run launcher, extended to processes of runs that it did not start. Named in dagster.yaml.

With it run monitoring fails the runs of killed processes within half a minute. The default launcher knows only
processes that the present code server started.
"""

import os
import signal

from dagster import DagsterRun, DefaultRunLauncher

from taxi_orchestration.instance.dagster_internals import CheckRunHealthResult, WorkerStatus
from taxi_orchestration.instance.dagster_names import LAUNCHED_BY, TAXI_BACKFILL
from taxi_orchestration.instance.processes import is_orphaned, living_process


class TaxiRunLauncher(DefaultRunLauncher):
    """Starts runs as processes of the code server, and detects killed ones."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Return True, without which run monitoring skips the launcher."""
        return True

    def terminate(self, run_id: str) -> bool:
        """Terminate a run; a run that `taxi` executes in a terminal by an interrupt, as Ctrl-C does.

        The default launcher cannot reach such a run, which would stay "canceling".
        """
        run = self._instance.get_run_by_id(run_id)
        if run and not run.is_finished and run.tags.get(LAUNCHED_BY) == TAXI_BACKFILL and (pid := living_process(run)):
            self._instance.report_run_canceling(run)
            os.kill(pid, signal.SIGINT)
            return True
        return super().terminate(run_id)

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Report whether the run's process lives; a process on another machine counts as running."""
        if is_orphaned(run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process was killed, or its machine was switched off")
        return CheckRunHealthResult(WorkerStatus.RUNNING)
