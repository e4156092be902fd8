"""Automation conditions: models are built when raw_trips holds other rows than they were built from."""

import json
import warnings
from datetime import date, datetime

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.instance.builds import rows_built_from
from taxi_orchestration.months import partition_key
from taxi_orchestration.settings import Settings
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import open_warehouse

BUILD_CHANGED_MONTHS = "build_changed_months"

# A prefix that distinguishes versions of a month, and keeps the cursors of nine models small.
VERSION_LENGTH = 16

# Dagster's id of an evaluation of all assets, and its time.
_Tick = tuple[int, datetime]


class RowsNotBuilt(dg.AutomationCondition):
    """True for months whose rows in raw_trips differ from those that the models were built from.

    True once for each version of a month's rows: a failed run is not requested again until the rows change. The
    condition compares states, not events since the last tick, so that it covers months of any age and loads while the
    sensor was off. Dagster's `data_version_changed` sees only events between two ticks, and treats a month that is
    replaced during its build as built.

    It must be the last operand of an "and": a month that it returns counts as requested.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.assets = AssetKeys(settings.student)
        # Cached with the id of the evaluation: read once a tick for all assets.
        self._loaded: tuple[_Tick, dict[date, str]] | None = None
        self._built: tuple[tuple[_Tick, frozenset[date]], dict[date, str]] | None = None

    @property
    def name(self) -> str:
        """Return the name that the UI shows."""
        return "rows_not_built"

    @property
    def description(self) -> str:
        """Return the description that the UI shows."""
        return "raw_trips holds other rows than the models were built from"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Evaluate the condition for one asset, once a tick."""
        loaded = self._rows_loaded(context)
        before: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        pending = {
            month: rows for month, rows in loaded.items() if before.get(partition_key(month)) != rows[:VERSION_LENGTH]
        }
        built = self._rows_built_from(context, frozenset(pending))
        stale = {partition_key(month) for month, rows in pending.items() if built.get(month) != rows}
        true_subset = context.candidate_subset.compute_intersection_with_partition_keys(
            stale & context.candidate_subset.expensively_compute_partition_keys()
        )
        waiting = stale - true_subset.expensively_compute_partition_keys()
        after = {
            key: before.get(key, "") if key in waiting else rows[:VERSION_LENGTH]
            for key, rows in ((partition_key(month), rows) for month, rows in loaded.items())
        }
        return dg.AutomationResult(context=context, true_subset=true_subset, cursor=json.dumps(after))

    def _rows_loaded(self, context: dg.AutomationContext) -> dict[date, str]:
        """Return the version of the rows of every loaded month."""
        tick = (context.evaluation_id, context.evaluation_time)
        if self._loaded is None or self._loaded[0] != tick:
            files = loaded_files(open_warehouse(self.settings))
            self._loaded = (tick, {month: file.rows_sha256 or "" for month, file in files.items()})
        return self._loaded[1]

    def _rows_built_from(self, context: dg.AutomationContext, months: frozenset[date]) -> dict[date, str]:
        """Return the version of the rows that the models of these months were built from."""
        key = ((context.evaluation_id, context.evaluation_time), months)
        if self._built is None or self._built[0] != key:
            self._built = (key, rows_built_from(context.asset_graph_view.instance, self.assets, months))
        return self._built[1]


def changed_months(settings: Settings) -> dg.AutomationCondition:
    """Return the condition of monthly models: other rows, no run of the month in progress, no failed blocking check."""
    checks = dg.AutomationCondition.any_checks_match(
        dg.AutomationCondition.check_failed() | dg.AutomationCondition.in_progress(), blocking_only=True
    )
    raw_trips = AssetKeys(settings.student).raw_trips
    return (
        ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.asset_matches(raw_trips, dg.AutomationCondition.in_progress())
        & ~dg.AutomationCondition.asset_matches(raw_trips, checks).with_label("blocking check of raw_trips failed")
        & RowsNotBuilt(settings)
    ).with_label("the month's rows in raw_trips changed")


def changed_code() -> dg.AutomationCondition:
    """Return the condition of views and seeds: materialized before, and the code changed since.

    A missing view is excluded: its tables may be missing too, and the first run of a month makes both.
    """
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        ~dg.AutomationCondition.missing()
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.code_version_changed().since(handled)
    ).with_label("its code changed")


def changed_upstream() -> dg.AutomationCondition:
    """Return the condition of the report: an upstream asset was updated, and none is in progress.

    Most months are missing in the tables, so that Dagster's `eager` would wait for ever.
    """
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()).since(handled)
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("a month changed")


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Build the sensor that evaluates the conditions of all assets, replacing Dagster's default one."""
    with warnings.catch_warnings():
        # A custom condition is evaluated in the code location; Dagster warns at each start that this is beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            BUILD_CHANGED_MONTHS,
            target=dg.AssetSelection.all(),
            description=(
                "Builds the models of every month whose rows in raw_trips changed. A re-issued file with the same rows "
                "changes nothing. Rebuilds views and seeds whose code changed, and the report after every change."
            ),
            default_status=dg.DefaultSensorStatus.STOPPED,
            use_user_code_server=True,
        )
