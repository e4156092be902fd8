"""dbt once more where its connection was cut: only what that stopped. What dbt itself found wrong is not tried again.

This is the one level at which a dbt run is retried; its step in Dagster is not.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_random_exponential

from taxi_orchestration.dbt.runner import FAILED_STATUSES, DbtOutcome

ATTEMPTS = 4
FIRST_PAUSE = 2.0
MAX_PAUSE = 60.0

# What libpq and PostgreSQL say when a connection is cut or the server goes down: dbt passes on nothing but the text.
_CONNECTION_LOST = re.compile(
    r"server closed the connection|terminating connection|connection already closed|connection .*(refused|failed)"
    r"|connection (reset|timed out|not open)|could not (receive|send) data|connection has been closed"
    r"|the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)"
    r"|remaining connection slots|too many clients|deadlock detected",
    re.IGNORECASE,
)

# Somebody's rule for how long a transaction may take: the next one would take as long.
_CUT_BY_RULE = re.compile(r"due to (transaction|idle-in-transaction) timeout")


def invoke_with_retries(
    invoke: Callable[[Sequence[str]], DbtOutcome],
    names: Sequence[str],
    manifest: Mapping[str, Any],
    on_retry: Callable[[str], None],
) -> DbtOutcome:
    """`invoke` for the nodes of these names, and again for those that a cut connection kept from being built.

    Returns the outcome of all attempts as one: of a node that was tried again the last attempt counts.
    """
    outcome = DbtOutcome([], [], None)
    to_do = list(names)

    def attempt() -> list[str]:
        nonlocal outcome, to_do
        outcome = outcome.followed_by(invoke(to_do))
        unfinished = nodes_to_retry(outcome, manifest)
        # Nothing was begun: not even a first connection could be made.
        to_do = to_do if unfinished is None else sorted(manifest["nodes"][node]["name"] for node in unfinished)
        return to_do

    def say(state: RetryCallState) -> None:
        on_retry(
            f"The connection to PostgreSQL was lost while dbt ran ({outcome.error}). Attempt "
            f"{state.attempt_number + 1} of {ATTEMPTS}, of what that stopped: {', '.join(to_do)}."
        )

    Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(multiplier=FIRST_PAUSE, max=MAX_PAUSE),
        before_sleep=say,
        retry_error_callback=lambda state: None,
    )(attempt)
    return outcome


def nodes_to_retry(outcome: DbtOutcome, manifest: Mapping[str, Any]) -> set[str] | None:
    """The nodes that a lost connection failed, and those skipped for no other reason; None for all of them."""
    if outcome.error is None:
        return set()
    if not outcome.results:
        return None if _is_lost(str(outcome.error)) else set()
    failed = {r.node.unique_id: str(r.message) for r in outcome.results if r.status in FAILED_STATUSES}
    lost = {node for node, message in failed.items() if _is_lost(message)}
    wrong = failed.keys() - lost
    skipped = {r.node.unique_id for r in outcome.results if r.status == "skipped"}
    return lost | {
        node for node in skipped if _is_stopped_by(node, lost, manifest) and not _is_stopped_by(node, wrong, manifest)
    }


def _is_lost(message: str) -> bool:
    return bool(_CONNECTION_LOST.search(message)) and not _CUT_BY_RULE.search(message)


def _is_stopped_by(node: str, failed: Collection[str], manifest: Mapping[str, Any]) -> bool:
    """Whether one of the failed nodes, or a model whose test failed, is an ancestor of the node."""
    stops = set(failed)
    for test in failed:
        if manifest["nodes"][test]["resource_type"] == "test":
            stops.update(manifest["nodes"][test]["depends_on"]["nodes"])
    seen: set[str] = set()
    to_see = [node]
    while to_see:
        parents = set(manifest["parent_map"].get(to_see.pop(), ())) - seen
        if parents & stops:
            return True
        seen |= parents
        to_see += parents
    return False
