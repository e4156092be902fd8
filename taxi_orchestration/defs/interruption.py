"""A step that is interrupted: by Ctrl-C in the terminal of `taxi`, or by "Terminate" in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterExecutionInterruptedError, DagsterRunStatus, Failure

from taxi_orchestration.instance.dagster_names import LAUNCHED_BY, TAXI_BACKFILL


@contextmanager
def canceled_by_interrupt(context: AssetExecutionContext) -> Iterator[None]:
    """Let a run that is interrupted in the block end, as canceled.

    Left to itself Dagster begins a step with a retry policy once more, even if somebody canceled its run, and takes a
    signal that it did not send itself for a crash.
    """
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError) as error:
        if context.run.tags.get(LAUNCHED_BY) == TAXI_BACKFILL:
            context.instance.report_run_canceling(context.run, "Interrupted in the terminal.")
        run = context.instance.get_run_by_id(context.run.run_id)
        if run and run.status is DagsterRunStatus.CANCELING:
            raise Failure("Interrupted. What was loaded is kept.", allow_retries=False) from error
        raise
