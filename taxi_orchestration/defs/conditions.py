"""When models are built without anybody asking: once raw_trips holds other rows than they were built from."""

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

# So much of a sha256 tells two versions of a month apart, and keeps the cursor of 14 models small.
VERSION_LENGTH = 16


# Dagster's number of an evaluation of all assets, and its time.
_Tick = tuple[int, datetime]


class RowsNotBuilt(dg.AutomationCondition):
    """True for months whose rows in raw_trips are others than those that the models were built from.

    Once for each version of a month's rows, whatever becomes of the run: what fails is not asked for again until the
    rows change. It compares what is there rather than what has happened since the last tick, so that it does not matter
    who loaded a month, how old it is, or whether this was turned on at the time. Dagster's own `data_version_changed`
    knows only the events between two ticks, and takes a month that is replaced while dbt builds it for built.

    It must be the last operand of an "and": what it says is true counts as requested.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.assets = AssetKeys(settings.student)
        # Each with what it is of: read once a tick for all assets.
        self._loaded: tuple[_Tick, dict[date, str]] | None = None
        self._built: tuple[tuple[_Tick, frozenset[date]], dict[date, str]] | None = None

    @property
    def name(self) -> str:
        """What the UI calls it."""
        return "rows_not_built"

    @property
    def description(self) -> str:
        """What the UI says of it."""
        return "raw_trips holds other rows than the models were built from"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """Called once a tick for each asset that has the condition."""
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
        """The version of the rows of every loaded month."""
        tick = (context.evaluation_id, context.evaluation_time)
        if self._loaded is None or self._loaded[0] != tick:
            files = loaded_files(open_warehouse(self.settings))
            self._loaded = (tick, {month: file.rows_sha256 or "" for month, file in files.items()})
        return self._loaded[1]

    def _rows_built_from(self, context: dg.AutomationContext, months: frozenset[date]) -> dict[date, str]:
        """Of these months the version of the rows that the models were built from."""
        asked = ((context.evaluation_id, context.evaluation_time), months)
        if self._built is None or self._built[0] != asked:
            self._built = (asked, self._read_built(context.asset_graph_view.instance, months))
        return self._built[1]

    def _read_built(self, instance: dg.DagsterInstance, months: frozenset[date]) -> dict[date, str]:
        return rows_built_from(instance, self.assets, months) if months else {}


def changed_months(settings: Settings) -> dg.AutomationCondition:
    """The condition of every monthly model: other rows, nothing of the month under way, no blocking check failed."""
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
    """The condition of every view and seed: it was made, and its SQL or its file is another since.

    One that is missing is none of its business: the tables that it reads may be missing too, and the first run of a
    month makes both.
    """
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        ~dg.AutomationCondition.missing()
        & ~dg.AutomationCondition.in_progress()
        & dg.AutomationCondition.code_version_changed().since(handled)
    ).with_label("its code changed")


def changed_upstream() -> dg.AutomationCondition:
    """The condition of the report: something that it reads was made since, and nothing of that is under way.

    Of most months the tables have nothing, so that Dagster's own `eager` would wait for ever.
    """
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated()).since(handled)
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("a month changed")


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates the conditions of all assets, in place of the one that Dagster would make."""
    with warnings.catch_warnings():
        # A condition of our own can be evaluated only where our code is; Dagster says at each start that this is new.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AutomationConditionSensorDefinition(
            BUILD_CHANGED_MONTHS,
            target=dg.AssetSelection.all(),
            description=(
                "Builds the models of every month whose rows in raw_trips changed, whoever loaded it and however old "
                "it is. A re-issued file with the same rows changes nothing. Makes views and seeds whose code "
                "changed, and the report after every change."
            ),
            default_status=dg.DefaultSensorStatus.STOPPED,
            use_user_code_server=True,
        )
