"""`taxi backfill` by number of months: against the course's pipeline, part by part, and with months already loaded."""

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context

import psycopg

from bench import peers
from bench.plots import line_plot
from bench.results import Goal, Section
from bench.workplace import FIRST_MONTH, MONTH_ROWS, Workplace, workplace
from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.months import next_month

# Airflow's time for the same months, in units of the course's load of one month. Airflow took 77 to 91 s for three
# months where that load took 16 s, and about 26 s for each further month.
COURSE_OF = {3: 4.9, 36: 58.0}
FACTORS = {3: 16, 36: 60}
SECONDS_OF_THREE = 5
SECONDS_A_MONTH = 0.36
SECONDS_OF_NOTHING = 2
# Limit for the time of one month with all months loaded, relative to the time with one month loaded.
GROWTH = 1.15
WHOLE = "start to end"
PARTS = ("imports, definitions, plan", "load steps", "dbt steps", "Dagster around the steps", "table and exit")
STAGES = ("load", "models", "tests")


def run(quick: bool) -> Section:
    """Measure each backfill into an empty schema, with environment and server ready, and then the first month again."""
    lengths, depths = ([1, 3, 6], [1, 6]) if quick else ([1, 3, 12, 36, 150], [1, 36, 150])
    longest = max(lengths)
    seconds: dict[int, dict[str, float]] = {}
    again: dict[int, dict[str, float]] = {}
    with workplace() as place:
        months = place.publish_range(FIRST_MONTH, longest)
        # The very first run parses the dbt project, which is part of setting up the environment.
        _measure_backfill(place, months[:1])
        for length in lengths:
            repeats = 1 if length == longest else 2
            seconds[length] = min(
                (_measure_backfill(place, months[:length]) for _ in range(repeats)), key=lambda parts: parts[WHOLE]
            )
            if length in depths:
                place.settle()
                # In a new process: dbt gets slower with each invocation inside a click command.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    again[length] = process.submit(_measure_month_again, place, months[0], times=5).result()
        ends = [f"{month:%Y-%m}" for month in (months[0], months[-1])]
        idle = {
            command: statistics.median(place.taxi(command, *arguments) for _ in range(3))
            for command, arguments in (("backfill", ends), ("status", []))
        }
        course = peers.measure_course(place, months[0])
    whole = {length: parts[WHOLE] for length, parts in seconds.items()}
    middle = lengths[-2]
    later = (whole[longest] - whole[middle]) / (longest - middle)
    first, last = again[depths[0]], again[depths[-1]]
    return Section(
        "Backfills",
        [
            Goal(
                "backfill of 3 months from the shell",
                whole[3],
                "s",
                at_most=SECONDS_OF_THREE,
                reason=_describe_longest_parts(seconds[3]),
            ),
            *(
                Goal(
                    f"backfill of {length} months, speed against the course's pipeline "
                    f"({COURSE_OF[length]:g} × its load of one)",
                    COURSE_OF[length] * course / whole[length],
                    "×",
                    at_least=factor,
                    measured=f"{whole[length]:.1f} s against {COURSE_OF[length] * course:.0f} s",
                    reason=_describe_longest_parts(seconds[length]),
                )
                for length, factor in FACTORS.items()
                if length in whole
            ),
            Goal(
                f"backfill of {longest} months of {MONTH_ROWS:,} rows into an empty database, per month",
                whole[longest] / longest,
                "s",
                at_most=SECONDS_A_MONTH,
                measured=f"{whole[longest]:.0f} s",
                reason=_describe_longest_parts(seconds[longest]),
            ),
            Goal(
                f"the same, per month after the first {middle}",
                later,
                "s",
                at_most=SECONDS_A_MONTH,
                reason=_describe_longest_parts(
                    {part: seconds[longest][part] - seconds[middle][part] for part in PARTS}
                ),
            ),
            Goal(
                f"backfill of {longest} completed months, nothing to do",
                idle["backfill"],
                "s",
                at_most=SECONDS_OF_NOTHING,
            ),
            Goal(f"taxi status with {longest} months", idle["status"], "s", at_most=SECONDS_OF_NOTHING),
            *(
                Goal(
                    f"one month reprocessed with {depths[-1]} months loaded, time against {depths[0]} loaded: {stage}",
                    last[stage] / first[stage],
                    "×",
                    at_most=GROWTH,
                    measured=f"{last[stage]:.2f} against {first[stage]:.2f} s",
                )
                for stage in STAGES
            ),
        ],
        ["s", *(f"{length} month{'s' if length > 1 else ''}" for length in lengths)],
        [
            *([part, *(f"{seconds[length][part]:.2f}" for length in lengths)] for part in (WHOLE, *PARTS)),
            [
                "the course's pipeline",
                *(f"{COURSE_OF[length] * course:.0f}" if length in COURSE_OF else "" for length in lengths),
            ],
            *(
                [
                    f"first month reprocessed: {stage}",
                    *(f"{again[n][stage]:.2f}" if n in again else "" for n in lengths),
                ]
                for stage in STAGES
            ),
        ],
        {
            "backfills.png": line_plot(
                {
                    "taxi backfill": whole,
                    "the course's pipeline": {n: factor * course for n, factor in COURSE_OF.items()},
                },
                f"months of {MONTH_ROWS:,} rows",
                "seconds, raw to marts and checks",
                log_y=True,
            ),
            "again.png": line_plot(
                {stage: {n: taken[stage] for n, taken in again.items()} for stage in STAGES},
                "months loaded",
                "seconds to reprocess one month",
            ),
        },
        f"Best of two runs; the longest backfill ran once. In the same run the course's load of one month of "
        f"{MONTH_ROWS:,} rows took {course:.1f} s. Its whole pipeline was measured with Airflow, as a multiple of that "
        "load. Times of a reprocessed month are medians.",
        {
            **{f"backfill_{length}": f"{whole[length]:.1f} s" for length in lengths},
            "backfill_each": f"{whole[longest] / longest:.2f} s",
            **{f"again_{n}": ", ".join(f"{stage} {again[n][stage]:.2f} s" for stage in STAGES) for n in depths},
        },
    )


def _measure_backfill(place: Workplace, months: list[date]) -> dict[str, float]:
    """Return the seconds of a backfill and of its parts, according to Dagster's events."""
    place.start_over()
    began = time.time()
    whole = place.taxi("backfill", f"{months[0]:%Y-%m}", f"{months[-1]:%Y-%m}", "--reprocess", "completed")
    with psycopg.connect(replace(place.target, dbname="dagster").url()) as connection:
        rows = connection.execute(
            """
            select dagster_event_type, coalesce(step_key, ''), extract(epoch from timestamp)::float8
            from event_logs
            where timestamp >= to_timestamp(%s) at time zone 'UTC'
              and dagster_event_type in ('STEP_START', 'STEP_SUCCESS', 'PIPELINE_START', 'PIPELINE_SUCCESS')
            order by id
            """,
            [began],
        ).fetchall()

    def sum_seconds(step: str) -> float:
        times = [at if kind == "STEP_SUCCESS" else -at for kind, key, at in rows if key == step]
        return sum(times)

    first, last = rows[0][2], rows[-1][2]
    load, dbt = sum_seconds("raw_trips"), sum_seconds("dbt_models")
    parts = (first - began, load, dbt, last - first - load - dbt, began + whole - last)
    return {WHOLE: whole, **dict(zip(PARTS, parts, strict=True))}


def _describe_longest_parts(parts: dict[str, float]) -> str:
    """Return the three longest parts of a backfill, with their seconds, as text."""
    largest = sorted(PARTS, key=lambda part: parts[part], reverse=True)[:3]
    return "; ".join(f"{part} {parts[part]:.1f} s" for part in largest)


def _measure_month_again(place: Workplace, month: date, times: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    settings = place.settings
    artifacts = prepared_project(settings)
    window = ["--vars", json.dumps({"window_start": str(month), "window_end": str(next_month(month))})]
    # A monthly run builds the monthly tables, and no view.
    commands = {
        "models": ["run", "--select", "config.materialized:month_window"],
        "tests": ["test", "--exclude-resource-type", "unit_test"],
    }
    with place.loader() as loader:
        for _ in range(times):
            seconds["load"].append(loader.load_month(month).seconds)
            for stage, command in commands.items():
                start = time.perf_counter()
                outcome = invoke_dbt(["--quiet", *command, *window], loader.warehouse, artifacts)
                seconds[stage].append(time.perf_counter() - start)
                if outcome.error:
                    raise outcome.error
    return {stage: statistics.median(taken) for stage, taken in seconds.items()}
