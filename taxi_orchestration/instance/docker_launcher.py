"""dagster-docker's run launcher, extended to runs that have no container. Named in deploy/docker/dagster.yaml.

Only the image has dagster-docker, so no other module imports this one.
"""

from dagster import DagsterRun
from dagster_docker import DockerRunLauncher
from dagster_docker.docker_run_launcher import DOCKER_CONTAINER_ID_TAG

from taxi_orchestration.instance.dagster_internals import CheckRunHealthResult, WorkerStatus


class TaxiDockerRunLauncher(DockerRunLauncher):
    """Starts each run in a container, and leaves runs of `taxi backfill` alone."""

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Report whether the run's container lives; a run without one is executed elsewhere, and counts as running.

        dagster-docker reports such a run as lost, and run monitoring would fail it while `taxi backfill` executes it.
        The launcher records the container of a run before it starts the container.
        """
        if DOCKER_CONTAINER_ID_TAG not in run.tags:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return super().check_run_worker_health(run)
