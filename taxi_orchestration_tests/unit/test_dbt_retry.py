"""Which nodes of a dbt run are worth another attempt."""

from types import SimpleNamespace
from typing import Any

from taxi_orchestration.dbt.retry import nodes_to_retry
from taxi_orchestration.dbt.runner import DbtError, DbtOutcome

LOST = "Database Error in model\n  terminating connection due to administrator command"
WRONG = "Database Error in model\n  division by zero"

# raw <- a <- b <- d, and a <- c; a_test tests a.
MANIFEST = {
    "nodes": {
        **{name: {"name": name, "resource_type": "model", "depends_on": {"nodes": []}} for name in "abcd"},
        "a_test": {"name": "a_test", "resource_type": "test", "depends_on": {"nodes": ["a"]}},
    },
    "parent_map": {"a": ["raw"], "b": ["a"], "c": ["a"], "d": ["b"], "a_test": ["a"]},
}


def outcome(**results: tuple[str, str]) -> DbtOutcome:
    made: list[Any] = [
        SimpleNamespace(node=SimpleNamespace(unique_id=name, name=name), status=status, message=message)
        for name, (status, message) in results.items()
    ]
    return DbtOutcome([], made, DbtError("it failed"))


def test_what_a_lost_connection_failed_and_what_that_skipped_is_tried_again() -> None:
    ran = outcome(a=("success", ""), b=("error", LOST), c=("success", ""), d=("skipped", ""))
    assert nodes_to_retry(ran, MANIFEST) == {"b", "d"}


def test_a_failed_data_test_and_what_it_stopped_are_not_tried_again() -> None:
    ran = outcome(a=("success", ""), a_test=("fail", "Got 3 results"), b=("skipped", ""), c=("skipped", ""))
    assert nodes_to_retry(ran, MANIFEST) == set()


def test_what_a_wrong_model_stopped_is_not_retried_what_a_lost_connection_did_is() -> None:
    ran = outcome(a=("success", ""), b=("error", WRONG), c=("error", LOST), d=("skipped", ""))
    assert nodes_to_retry(ran, MANIFEST) == {"c"}


def test_a_test_whose_connection_was_lost_is_retried_with_what_it_stopped() -> None:
    ran = outcome(a=("success", ""), a_test=("error", LOST), b=("skipped", ""), d=("skipped", ""))
    assert nodes_to_retry(ran, MANIFEST) == {"a_test", "b", "d"}


def test_everything_is_tried_again_where_not_even_a_first_connection_could_be_made() -> None:
    refused = DbtOutcome([], [], DbtError('connection to server at "127.0.0.1", port 1 failed: Connection refused'))
    assert nodes_to_retry(refused, MANIFEST) is None
    assert nodes_to_retry(DbtOutcome([], [], DbtError("no such selector")), MANIFEST) == set()


def test_the_later_attempt_at_a_node_is_the_one_that_counts() -> None:
    first = outcome(a=("success", ""), b=("error", LOST), d=("skipped", ""))
    both = first.followed_by(DbtOutcome([], outcome(b=("success", ""), d=("success", "")).results, None))
    assert both.error is None
    assert [(r.node.name, r.status) for r in both.results] == [("a", "success"), ("b", "success"), ("d", "success")]
