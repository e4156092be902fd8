"""A step that is interrupted: by Ctrl-C in the terminal of `taxi`, or by "Terminate" in the UI."""

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterExecutionInterruptedError, DagsterRunStatus, Failure

# Set by whoever executes a run in a terminal, where Ctrl-C is how a person cancels it.
STARTED_BY_TAG = "taxi/started_by"


@contextmanager
def canceled_by_interrupt(context: AssetExecutionContext) -> Iterator[None]:
    """Let a run that is interrupted in the block end, as canceled.

    Left to itself Dagster begins a step with a retry policy once more, even if somebody canceled its run, and takes a
    signal that it did not send itself for a crash.
    """
    try:
        yield
    except (KeyboardInterrupt, DagsterExecutionInterruptedError) as error:
        if STARTED_BY_TAG in context.run.tags:
            context.instance.report_run_canceling(context.run, "Interrupted in the terminal.")
        run = context.instance.get_run_by_id(context.run.run_id)
        if run and run.status is DagsterRunStatus.CANCELING:
            raise Failure("Interrupted. What was loaded is kept.", allow_retries=False) from error
        raise
