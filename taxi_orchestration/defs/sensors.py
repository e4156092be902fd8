"""The sensor that watches the TLC's host for new and re-issued files. conditions.py builds models of loaded months.

The sensor reads raw_loads and Dagster's runs, so that a month loaded by hand counts like its own. Its cursor holds only
the publications that it has recorded.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime

import dagster as dg

from taxi_orchestration.asset_keys import AssetKeys
from taxi_orchestration.defs.clock import Clock
from taxi_orchestration.defs.jobs import TAXI_PIPELINE
from taxi_orchestration.defs.run_requests import plan_requests
from taxi_orchestration.defs.tlc_source import NOT_PUBLISHED, observation, observed_version
from taxi_orchestration.defs.warehouse_resource import WarehouseResource
from taxi_orchestration.instance.run_tags import TLC_PUBLICATIONS, attempts_by, keys_in_progress, requester_tag
from taxi_orchestration.months import (
    Window,
    add_months,
    newest_month,
    next_month,
    parse_partition_key,
    partition_key,
)
from taxi_orchestration.settings import Settings
from taxi_orchestration.tlc.client import Publication
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration.tlc.publications import MAX_MONTHS_A_TICK, fetch_publications
from taxi_orchestration.warehouse.load_log import loaded_files

INTERVAL_SECONDS = 300
# The months to search for the newest published one if none is loaded.
MONTHS_BACK_AT_FIRST = 24


@dataclass
class _Memory:
    """The cursor: the last recorded version of each month, and the start of the next tick among many months.

    A version is "" where the host has not answered for the month yet.
    """

    recorded: dict[str, str] = field(default_factory=dict)
    begin_at: int = 0

    @classmethod
    def of(cls, cursor: str | None) -> "_Memory":
        return cls(**json.loads(cursor)) if cursor else cls()

    def dump(self) -> str:
        return json.dumps(vars(self), separators=(",", ":"))

    def awaited(self) -> set[date]:
        """Return the months without an answer so far, and those that were not published at the last request."""
        return {parse_partition_key(key) for key, version in self.recorded.items() if version in ("", NOT_PUBLISHED)}


def build_tlc_publications(assets: AssetKeys) -> dg.SensorDefinition:
    """Build the sensor; off by default, because it downloads."""
    requested_by = requester_tag(TLC_PUBLICATIONS, assets)

    @dg.sensor(
        name=TLC_PUBLICATIONS,
        job_name=TAXI_PIPELINE,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Loads every month that the TLC publishes or re-issues: sends HEAD requests for the months after the "
            "newest loaded one and for the last loaded ones (TAXI_REISSUE_MONTHS, 24). If no month is loaded yet, it "
            "begins with the newest published one. Older months: `taxi backfill`."
        ),
    )
    def tlc_publications(
        context: dg.SensorEvaluationContext,
        settings: dg.ResourceParam[Settings],
        warehouse: WarehouseResource,
        clock: dg.ResourceParam[Clock],
    ) -> dg.SensorResult:
        """Evaluate one tick: compare publications with loaded and running months, and request runs."""
        now = clock.now()
        memory = _Memory.of(context.cursor)
        files = loaded_files(warehouse.open())
        attempts = attempts_by(context.instance, requested_by)
        waited_for = {parse_partition_key(key) for key, _ in attempts if key} | memory.awaited()
        first = settings.first_month
        months = [m for m in months_to_request(files, waited_for, now, settings.taxi_reissue_months) if m >= first]
        if files:
            # A later month may be loaded before the host answers for an earlier one.
            for month in set(months) - set(files):
                memory.recorded.setdefault(partition_key(month), "")
        if len(months) > MAX_MONTHS_A_TICK:
            begin = memory.begin_at % len(months)
            months = (months[begin:] + months[:begin])[:MAX_MONTHS_A_TICK]
            memory.begin_at = begin + MAX_MONTHS_A_TICK
        answers = fetch_publications(settings.tlc_base_url, months)
        publications = {m: answer for m, answer in answers.items() if isinstance(answer, Publication)}

        events = []
        for month, publication in publications.items():
            version = _short(observed_version(publication))
            if memory.recorded.get(partition_key(month)) != version:
                events.append(observation(assets, month, publication))
                memory.recorded[partition_key(month)] = version

        busy = keys_in_progress(context.instance, assets, [partition_key(month) for month in months])
        requests, sentences = plan_requests(files, answers, attempts, busy, requested_by, now)
        for sentence in sentences:
            context.log.info(sentence)
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else " ".join(sentences) or "The newest possible month is loaded.",
            asset_events=events,
            cursor=memory.dump(),
        )

    return tlc_publications


def _short(version: str) -> str:
    """Return a short prefix of a version, because the UI shows the cursor."""
    return version if version == NOT_PUBLISHED else hashlib.sha256(version.encode()).hexdigest()[:6]


def months_to_request(
    files: Collection[date], waited_for: Collection[date], now: datetime, reissue_months: int
) -> list[date]:
    """Return the months to request: after the newest loaded one, the last loaded ones, and awaited ones."""
    newest = newest_month(now)
    if not files:
        first = max(DATASET.first_month, add_months(newest, 1 - MONTHS_BACK_AT_FIRST))
        return Window.through(first, newest).months
    after_loaded = next_month(max(files))
    after = Window.through(after_loaded, newest).months if after_loaded <= newest else []
    # A month that failed, or is published after its successor, is soon older than the newest loaded one and would be
    # missed.
    left_behind = sorted(set(waited_for) - set(files) - set(after))
    last = sorted(files, reverse=True)[:reissue_months]
    return after + left_behind + last
