"""Interrupted steps: by Ctrl-C in the terminal of `taxi`, or by "Terminate" in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterExecutionInterruptedError, DagsterRunStatus, Failure

from taxi_orchestration.instance.dagster_names import LAUNCHED_BY, TAXI_BACKFILL


@contextmanager
def canceled_by_interrupt(context: AssetExecutionContext) -> Iterator[None]:
    """End a run that is interrupted in the block as canceled.

    By default Dagster retries an interrupted step with a retry policy, even in a canceled run, and treats a signal
    that it did not send as a crash.
    """
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError) as error:
        run = context.instance.get_run_by_id(context.run.run_id)
        # "Terminate" in the UI has set the status, before its signal.
        is_canceling = run is not None and run.status is DagsterRunStatus.CANCELING
        # Dagster copies the tags of a run to those that the UI re-executes from it.
        is_in_terminal = context.run.tags.get(LAUNCHED_BY) == TAXI_BACKFILL and not context.run.parent_run_id
        if is_in_terminal and not is_canceling:
            context.instance.report_run_canceling(context.run, "Interrupted in the terminal.")
        if is_in_terminal or is_canceling:
            raise Failure("Interrupted. What was loaded is kept.", allow_retries=False) from error
        raise
