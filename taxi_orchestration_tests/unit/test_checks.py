"""The findings of the month checks, computed from plain numbers."""

import subprocess
import sys
from base64 import b64decode
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from xml.etree import ElementTree

import pytest
from dagster import AssetCheckSeverity

from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.months import add_months
from taxi_orchestration.quality.columns import check_columns
from taxi_orchestration.quality.coverage import check_coverage
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.quality.freshness import check_freshness
from taxi_orchestration.quality.pickups import check_pickups
from taxi_orchestration.quality.rows import check_rows
from taxi_orchestration.quality.volume import check_volume
from taxi_orchestration.report.palette import LIGHT
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.warehouse.measures import MonthMeasure
from taxi_orchestration_tests.support.keys import RAW_CHECKS
from taxi_orchestration_tests.support.months import FEBRUARY, JANUARY, MARCH

APRIL = date(2024, 4, 1)
ERA_B = {column.source_name: "int64" for column in DATASET.columns_of("B")}


def test_a_month_whose_counts_agree_is_whole() -> None:
    finding = check_rows("2024-01", MonthMeasure(rows_logged=10, rows=10, last_row=10), footer_rows=10)
    assert finding.level == "pass"
    assert finding.counts["rows in the file's footer"] == finding.counts["rows in raw_trips"] == 10


@pytest.mark.parametrize(
    "measure",
    [
        MonthMeasure(rows_logged=10, rows=9, last_row=10),
        MonthMeasure(rows_logged=10, rows=10, last_row=11),
        MonthMeasure(rows_logged=None, rows=10, last_row=10),
        MonthMeasure(rows_logged=10),
    ],
)
def test_a_month_whose_counts_differ_is_an_error_that_says_how_to_repair_it(measure: MonthMeasure) -> None:
    finding = check_rows("2024-01", measure)
    assert finding.level == "error"
    assert "2024-01" in finding.summary
    assert "taxi backfill 2024-01 2024-01 --reprocess completed" in finding.to_do


def test_the_columns_of_the_era_are_as_agreed_in_any_case() -> None:
    assert check_columns(JANUARY, {name.upper(): kind for name, kind in ERA_B.items()}).level == "pass"


def test_a_new_column_warns_and_is_named() -> None:
    finding = check_columns(JANUARY, {**ERA_B, "Tolls_By_Mail": "double"})
    assert (finding.level, finding.counts["new columns"]) == ("warn", "Tolls_By_Mail")


def test_a_column_that_was_left_out_is_named_without_a_warning() -> None:
    finding = check_columns(JANUARY, {**ERA_B, "__index_level_0__": "int64"}, ["__index_level_0__"])
    assert (finding.level, finding.counts["left out"]) == ("pass", "__index_level_0__")
    assert "the 20 columns of its era, and beside them __index_level_0__, left out" in finding.summary


def test_a_missing_optional_column_warns_and_a_missing_required_one_is_an_error() -> None:
    optional = check_columns(JANUARY, {name: kind for name, kind in ERA_B.items() if name != "ehail_fee"})
    required = check_columns(JANUARY, {name: kind for name, kind in ERA_B.items() if name != "fare_amount"})
    assert (optional.level, optional.counts["missing columns"]) == ("warn", "ehail_fee")
    assert (required.level, required.counts["missing columns"]) == ("error", "fare_amount")


def test_a_few_pickups_outside_the_month_pass_and_many_warn_with_a_sample() -> None:
    few = MonthMeasure(rows=50_000, pickups_outside=43)
    many = MonthMeasure(rows=50_000, pickups_outside=501)
    assert check_pickups("2024-01", few).level == "pass"
    finding = check_pickups("2024-01", many, [{"source_row": 7}])
    assert (finding.level, finding.counts["pickups outside"], list(finding.sample)) == (
        "warn",
        501,
        [{"source_row": 7}],
    )


def test_a_month_is_compared_with_the_last_year_and_the_trailing_median() -> None:
    rows = {add_months(JANUARY, -back): 100 for back in range(1, 13)}
    assert check_volume(JANUARY, rows | {JANUARY: 110}).level == "pass"
    assert check_volume(JANUARY, rows | {JANUARY: 49}).level == "warn"
    assert check_volume(JANUARY, rows | {JANUARY: 201}).level == "warn"


def test_a_reference_has_one_name_for_any_number_of_months_and_so_one_plot() -> None:
    findings = [
        check_volume(JANUARY, {add_months(JANUARY, -back): 100 for back in range(loaded + 1)})
        for loaded in range(3, 12)
    ]
    assert [finding.counts for finding in findings] == [{"rows": 100, "median of the last 12 months": 100}] * 9
    assert findings[1].summary == "2024-01: 100 rows (median of the last 12 months, 4 loaded: 100)."


def test_a_month_close_to_one_of_two_references_passes() -> None:
    rows = {add_months(JANUARY, -back): 100 for back in range(1, 12)} | {add_months(JANUARY, -12): 20}
    assert check_volume(JANUARY, rows | {JANUARY: 30}).level == "pass"


def test_a_month_without_others_to_compare_with_passes() -> None:
    assert check_volume(JANUARY, {JANUARY: 1}).level == "pass"


def test_a_volume_that_warns_is_drawn_in_the_reports_style() -> None:
    rows = {add_months(JANUARY, -back): 100 for back in range(40)}
    assert not check_volume(JANUARY, rows).rows_by_month
    finding = check_volume(JANUARY, rows | {JANUARY: 20})
    assert len(finding.rows_by_month) == 25
    markdown = str(evaluation_of(RAW_CHECKS[3], finding, "2024-01").metadata["rows by month"].value)
    assert len(markdown) < 20_000
    assert "The orange line is the same month a year before." in markdown
    svg = b64decode(markdown.split("base64,")[1].split(")")[0]).decode()
    paths = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}path")
    opacities = Counter(path.get("opacity") for path in paths)
    assert (opacities["0.3"], opacities["1"]) == (24, 1)
    assert LIGHT["accent"] in svg


def test_a_load_without_a_plot_does_not_import_altair() -> None:
    code = (
        "import sys, datetime; from taxi_orchestration_tests.support.keys import RAW_CHECKS;"
        "from taxi_orchestration.defs.evaluations import evaluation_of;"
        "from taxi_orchestration.quality.volume import check_volume;"
        "from taxi_orchestration.loading import open_loader; from taxi_orchestration.definitions import defs;"
        "month = datetime.date(2024, 1, 1);"
        "evaluation_of(RAW_CHECKS[3], check_volume(month, {month: 9, datetime.date(2023, 1, 1): 9}), '2024-01');"
        "print([name for name in ('altair', 'vl_convert') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_months_that_are_published_loaded_and_recorded_pass() -> None:
    months = {JANUARY, FEBRUARY}
    assert check_coverage(months, months, months).level == "pass"
    assert check_coverage(set(), set(), None).level == "pass"


def test_a_published_month_that_is_not_loaded_warns() -> None:
    finding = check_coverage({JANUARY}, {JANUARY}, {date(2023, 12, 1), JANUARY, FEBRUARY, MARCH})
    assert (finding.level, finding.counts["published, not loaded"]) == ("warn", "2024-02 to 2024-03")
    assert finding.to_do == "taxi backfill --missing"


def test_a_month_recorded_in_dagster_but_missing_in_postgres_is_an_error() -> None:
    finding = check_coverage({JANUARY}, {JANUARY, FEBRUARY}, None)
    assert (finding.level, finding.counts["in Dagster, not in PostgreSQL"]) == ("error", "2024-02")
    assert "taxi backfill 2024-02 2024-02 --reprocess completed" in finding.to_do


def test_a_month_in_postgres_without_a_record_in_dagster_warns() -> None:
    finding = check_coverage({JANUARY, FEBRUARY}, {JANUARY}, None)
    assert (finding.level, finding.counts["in PostgreSQL, unknown to Dagster"]) == ("warn", "2024-02")


def test_a_gap_between_loaded_months_warns() -> None:
    finding = check_coverage({JANUARY, APRIL}, {JANUARY, APRIL}, None)
    assert (finding.level, finding.counts["gaps"]) == ("warn", "2024-02 to 2024-03")


def test_months_before_the_first_month_of_the_project_are_left_out() -> None:
    assert check_coverage({JANUARY, APRIL}, {APRIL}, {JANUARY, FEBRUARY, APRIL}, APRIL).level == "pass"
    assert check_coverage(set(), {JANUARY}, None, APRIL).level == "pass"


@pytest.mark.parametrize(
    ("first_month", "command"),
    [
        (DATASET.first_month, "taxi backfill 2024-01 2024-03"),
        (FEBRUARY, "taxi backfill 2024-02 2024-03"),
        (APRIL, "taxi backfill 2024-04 2024-04"),
    ],
)
def test_the_command_for_an_empty_project_begins_no_earlier_than_its_first_month(
    first_month: date, command: str
) -> None:
    assert check_coverage(set(), set(), None, first_month).to_do == command


NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(("days", "level"), [(0.5, "pass"), (1.5, "warn"), (3.5, "error")])
def test_a_published_month_that_is_not_loaded_warns_before_it_fails(days: float, level: str) -> None:
    finding = check_freshness(NOW, {MARCH: NOW - timedelta(days=days)}, {FEBRUARY})
    assert finding.level == level
    assert finding.counts["published, not loaded"] == "2024-03"
    if level != "pass":
        assert f"published for {'1 day' if level == 'warn' else '3 days'}, but not loaded." in finding.summary
        assert "taxi backfill --missing 2024-03 2024-03" in finding.to_do


def test_a_published_month_with_an_unknown_publication_time_warns() -> None:
    assert check_freshness(NOW, {MARCH: None}, {FEBRUARY}).level == "warn"


@pytest.mark.parametrize(("days", "level"), [(74, "pass"), (76, "warn"), (101, "error")])
def test_a_month_that_the_tlc_does_not_publish_warns_before_it_fails(days: int, level: str) -> None:
    end_of_march = datetime(2024, 4, 1, 12, tzinfo=UTC)
    finding = check_freshness(end_of_march + timedelta(days=days), {}, {FEBRUARY})
    assert (finding.level, finding.counts["next month expected"]) == (level, "2024-03")


def test_loading_an_old_month_again_does_not_improve_freshness() -> None:
    late = datetime(2024, 12, 1, tzinfo=UTC)
    assert check_freshness(late, {}, {date(2019, 1, 1), FEBRUARY}).level == "error"


def test_a_host_that_does_not_answer_warns_and_does_not_count_as_a_late_month() -> None:
    late = datetime(2024, 12, 1, tzinfo=UTC)
    finding = check_freshness(late, {}, {FEBRUARY}, error="Requesting 2024-03 (http://x): its certificate is unknown.")
    assert finding.level == "warn"
    assert finding.summary.endswith("is published. Requesting 2024-03 (http://x): its certificate is unknown.")


def test_if_nothing_is_loaded_nothing_is_late() -> None:
    assert check_freshness(NOW, {MARCH: None}, set()).level == "pass"


def test_a_finding_becomes_an_evaluation_that_names_its_month_and_what_to_do() -> None:
    finding = Finding("error", "It is so.", "Do that.", {"rows": 3}, [{"row": n} for n in range(9)])
    evaluation = evaluation_of(RAW_CHECKS[0], finding, "2024-01")
    assert (evaluation.partition, evaluation.passed, evaluation.blocking) == ("2024-01", False, True)
    assert evaluation.severity is AssetCheckSeverity.ERROR
    assert evaluation.metadata["months"].value == "2024-01"
    assert evaluation.metadata["to do"].value == "Do that."
    assert evaluation.metadata["rows"].value == 3
    assert str(evaluation.metadata["sample"].value).count("\n") == 6
    assert "rows by month" not in evaluation.metadata
