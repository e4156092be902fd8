"""A simulated year of the TLC: months that appear late, change, break and vanish, and a pipeline without manual runs.

A simulated day, at noon, has one tick of tlc_publications, of month_watch and of alerts, and one evaluation of the
conditions if the sensor requested a run. A requested run loads its month at once. Models are built for eight months or
more at a time, as if the dbt pool were busy, except in the run of the re-saved month, which is executed as a whole.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial

import dagster as dg

from taxi_orchestration.months import add_months, next_month, partition_key
from taxi_orchestration_tests.support.daemon import Daemon, Tick
from taxi_orchestration_tests.support.http_host import Answer, status
from taxi_orchestration_tests.support.keys import RAW_TRIPS
from taxi_orchestration_tests.support.tlc_host import TlcHost

FIRST_DAY = date(2024, 3, 1)
LAST_DAY = date(2025, 3, 31)
LOADED_BEFORE = [date(2023, 11, 1), date(2023, 12, 1)]
MONTHS = [add_months(date(2024, 1, 1), after) for after in range(12)]

BROKEN = date(2024, 5, 1)
REISSUED = {date(2024, 2, 1): 40, date(2024, 6, 1): 75}
RESAVED = date(2024, 4, 1)
WITHDRAWN = date(2024, 3, 1)
BAD_DAY = date(2024, 10, 7)

ROWS = 60
BUILD_AFTER = 8


@dataclass
class Year:
    """The record of the year. `after_day` is called at the end of every day with the tick of tlc_publications."""

    daemon: Daemon
    tlc: TlcHost
    after_day: Callable[[date, Tick], None] = lambda day, tick: None
    issues: Counter[date] = field(default_factory=Counter)
    rows: dict[date, int] = field(default_factory=dict)
    failed_runs: list[tuple[date, str]] = field(default_factory=list)
    skip_reasons: dict[date, str] = field(default_factory=dict)
    unbuilt: set[str] = field(default_factory=set)
    resaved_run: dg.ExecuteInProcessResult | None = None

    def plan(self) -> dict[date, list[Callable[[], None]]]:
        """Return the TLC's publications, re-issues and withdrawals by day."""
        generator = random.Random(2024)
        plan: dict[date, list[Callable[[], None]]] = {}

        def on(day: date, action: Callable[[], None]) -> None:
            plan.setdefault(day, []).append(action)

        for month in MONTHS:
            published = next_month(month) + timedelta(days=generator.randint(45, 75))
            if month == BROKEN:
                on(published, lambda: self.tlc.publish_bytes(BROKEN, b"PAR1 a file that broke PAR1"))
                published += timedelta(days=7)
            on(published, partial(self.issue, month))
            if month in REISSUED:
                on(published + timedelta(days=REISSUED[month]), partial(self.issue, month))
            if month == RESAVED:
                on(published + timedelta(days=90), lambda: self.issue(RESAVED, resaved=True))
            if month == WITHDRAWN:
                on(published + timedelta(days=100), lambda: self.tlc.withdraw(WITHDRAWN))
        return plan

    def issue(self, month: date, *, resaved: bool = False) -> None:
        """Publish or re-issue a month, with other rows each time, or (`resaved`) with the same rows in another file."""
        seed = self.issues[month] - resaved
        self.issues[month] += 1
        self.rows[month] = self.tlc.publish(month, rows=ROWS + 10 * seed, seed=seed, resaved=resaved).rows

    def simulate(self) -> None:
        """Simulate all days, and then build the models that are not built yet."""
        plan = self.plan()
        for month in LOADED_BEFORE:
            self.issue(month)
            assert self.daemon.execute(partition_key(month), [RAW_TRIPS]).success
        for number in range((LAST_DAY - FIRST_DAY).days + 1):
            day = FIRST_DAY + timedelta(days=number)
            self.daemon.clock.moment = datetime.combine(day, time(12), UTC)
            for action in plan.get(day, []):
                action()
            answers = dict(self.tlc.http.answers)
            if day == BAD_DAY:
                self.tlc.http.answers.update({path: [_unavailable()] for path in answers})
            tick = self.daemon.tick()
            self.skip_reasons[day] = tick.skip_reason
            for request in tick.requests:
                self._run(day, request)
            self.daemon.watch()
            self.daemon.alert()
            self.tlc.http.answers.update(answers)
            if tick.requests or day == FIRST_DAY:
                self.unbuilt |= self.daemon.evaluate()
            if len(self.unbuilt) >= BUILD_AFTER:
                self._build()
            self.after_day(day, tick)
        self._build()

    def _run(self, day: date, request: dg.RunRequest) -> None:
        if request.partition_key == partition_key(RESAVED) and self.issues[RESAVED] == 2:
            self._build()
            result = self.resaved_run = self.daemon.run(request)
        else:
            result = self.daemon.execute(request.partition_key, [RAW_TRIPS], tags=request.tags)
        if not result.success:
            self.failed_runs.append((day, str(request.partition_key)))

    def _build(self) -> None:
        assert all(result.success for result in self.daemon.build(self.unbuilt))
        self.unbuilt = set()


def _unavailable() -> Answer:
    return status(503, b"try again later")
