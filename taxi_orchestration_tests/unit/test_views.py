"""The views and seeds that a dbt step builds in addition to its selection."""

from typing import Any

from taxi_orchestration.defs.views import views_to_make


def make_node(materialized: str, *parents: str) -> dict[str, Any]:
    kind = "seed" if materialized == "seed" else "model"
    return {"resource_type": kind, "config": {"materialized": materialized}, "depends_on": {"nodes": list(parents)}}


NODES = {
    "codes": make_node("seed"),
    "staged": make_node("view", "source.raw"),
    "table": make_node("month_window", "staged"),
    "dimension": make_node("view", "codes", "table"),
    "mart": make_node("view", "dimension", "table"),
}
EVERYTHING = set(NODES)
VIEWS = EVERYTHING - {"table"}


def test_the_first_month_creates_every_view_and_seed() -> None:
    assert set(views_to_make(NODES, ["table"], existing=[], current=[])) == VIEWS


def test_a_month_does_not_recreate_a_view_with_unchanged_code() -> None:
    assert views_to_make(NODES, ["table"], existing=EVERYTHING, current=VIEWS) == []


def test_a_view_whose_tables_do_not_exist_yet_is_left_to_a_later_run() -> None:
    assert views_to_make(NODES, ["staged"], existing=[], current=[]) == ["codes"]


def test_a_view_whose_code_changed_is_recreated_with_all_views_that_depend_on_it() -> None:
    assert views_to_make(NODES, ["table"], existing=EVERYTHING, current=VIEWS - {"dimension"}) == ["dimension", "mart"]
    assert views_to_make(NODES, ["dimension"], existing=EVERYTHING, current=VIEWS) == ["mart"]


def test_a_changed_view_or_seed_upstream_of_a_table_recreates_nothing_downstream() -> None:
    assert views_to_make(NODES, ["table"], existing=EVERYTHING, current=VIEWS - {"codes"}) == ["codes"]
    assert views_to_make(NODES, ["table"], existing=EVERYTHING, current=VIEWS - {"staged"}) == ["staged"]
