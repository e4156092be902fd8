"""The sensor that evaluates freshness and coverage without a run, and records the results as checks.

quality/freshness.py defines freshness, alerts.py reports it.
"""

import json
from collections.abc import Mapping
from datetime import date, datetime, timedelta

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.coverage import coverage_evaluation, observed_months
from taxi_orchestration.defs.evaluations import evaluation_of
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.status import is_published
from taxi_orchestration.months import Window, newest_month, next_month, parse_partition_key, partition_key
from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.quality.freshness import check_freshness
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.errors import TlcError
from taxi_orchestration.tlc.publications import MAX_MONTHS_A_TICK, fetch_publications
from taxi_orchestration.warehouse.measures import months_in_raw_trips
from taxi_orchestration.warehouse.warehouse import Warehouse

MONTH_WATCH = "month_watch"

INTERVAL_SECONDS = 900
# An unchanged result is recorded again after this time, to show that the sensor works.
REPEAT_AFTER = timedelta(days=1)


def freshness_spec(assets: AssetKeys) -> dg.AssetCheckSpec:
    """Return the spec of the freshness check, which month_watch and the UI's button evaluate."""
    return dg.AssetCheckSpec(
        assets.freshness_check.name,
        asset=assets.freshness_check.asset_key,
        description=(
            "A published month is loaded within a day (else a warning) or three (else a failure). The next month is "
            "published within 75 days after its end (else a warning) or 100 (else a failure). Requests from the TLC's "
            "host the months that are not known to be published."
        ),
    )


def evaluate_freshness(
    instance: dg.DagsterInstance,
    warehouse: Warehouse,
    tlc_base_url: str,
    now: datetime,
    seen: Mapping[date, datetime] | None,
) -> tuple[Finding, dict[date, datetime | None]]:
    """Evaluate freshness, and return since when each published month that is not loaded is known.

    `seen` is that result of the last evaluation; None if there is none.
    """
    loaded = months_in_raw_trips(warehouse)
    newest = newest_month(now)
    if not loaded or max(loaded) >= newest:
        return check_freshness(now, {}, loaded), {}
    after = Window.through(next_month(max(loaded)), newest).months
    observed = observed_months(instance, AssetKeys(warehouse.student)) or set()
    # At most as many months as one tick may request; the newest, if nothing was loaded for years.
    answers = fetch_publications(tlc_base_url, [month for month in after if month not in observed][-MAX_MONTHS_A_TICK:])
    out = {month for month, answer in answers.items() if is_published(answer)}
    silent = {month: str(answer) for month, answer in answers.items() if isinstance(answer, TlcError)}
    out |= observed | (silent.keys() & (seen or {}).keys())
    known = {month: None if seen is None else seen.get(month, now) for month in after if month in out}
    return check_freshness(now, known, loaded, error=next(iter(silent.values()), "")), known


def build_freshness_check(assets: AssetKeys) -> dg.AssetChecksDefinition:
    """Build the freshness check for the UI's button; the sensor month_watch evaluates it too."""
    spec = freshness_spec(assets)

    @dg.asset_check(asset=spec.asset_key, name=spec.name, description=spec.description)
    def newest_month_is_loaded(
        context: dg.AssetCheckExecutionContext,
        settings: dg.ResourceParam[Settings],
        warehouse: WarehouseResource,
        clock: dg.ResourceParam[Clock],
    ) -> dg.AssetCheckResult:
        finding, _ = evaluate_freshness(context.instance, warehouse.open(), settings.tlc_base_url, clock.now(), None)
        evaluation = evaluation_of(spec, finding)
        return dg.AssetCheckResult(
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )

    return newest_month_is_loaded


def build_month_watch(assets: AssetKeys, *, runs_by_itself: bool) -> dg.SensorDefinition:
    """Build the sensor; on by default if alerts are configured."""

    @dg.sensor(
        name=MONTH_WATCH,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING if runs_by_itself else dg.DefaultSensorStatus.STOPPED,
        description=(
            "Records, without a run, whether the newest published month is loaded in time, and whether PostgreSQL, "
            "Dagster and the TLC agree on the months."
        ),
    )
    def month_watch(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        warehouse: WarehouseResource,
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult:
        instance, now, opened = context.instance, clock.now(), warehouse.open()
        seen = {
            parse_partition_key(key): datetime.fromisoformat(at)
            for key, at in json.loads(context.cursor or "{}").items()
        }
        finding, known = evaluate_freshness(instance, opened, settings.tlc_base_url, now, seen)
        evaluations = [
            evaluation_of(freshness_spec(assets), finding),
            coverage_evaluation(instance, opened, settings.first_month),
        ]
        return dg.SensorResult(
            asset_events=[evaluation for evaluation in evaluations if _is_new(instance, evaluation, now)],
            skip_reason=" ".join(str(evaluation.description) for evaluation in evaluations),
            cursor=json.dumps({partition_key(month): at.isoformat() for month, at in known.items() if at}),
        )

    return month_watch


def _is_new(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation, now: datetime) -> bool:
    """Return whether the last record of a check differs or is old."""
    last = instance.get_latest_asset_check_evaluation_record(evaluation.asset_check_key)
    if last is None or not isinstance(last.evaluation, dg.AssetCheckEvaluation):
        return True
    is_same = (last.evaluation.passed, last.evaluation.severity, last.evaluation.description) == (
        evaluation.passed,
        evaluation.severity,
        evaluation.description,
    )
    return not is_same or now.timestamp() - last.create_timestamp > REPEAT_AFTER.total_seconds()
