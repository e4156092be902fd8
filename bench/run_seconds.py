"""Where the seconds of a backfill go, part by part, read from Dagster's own events."""

import time
from dataclasses import replace
from datetime import date

import matplotlib.pyplot as plt
import psycopg

from bench.results import PLOTS, Section
from bench.workplace import Workplace, workplace

FIRST = date(2024, 1, 1)
PARTS = ("imports, definitions, plan", "load step", "dbt step", "Dagster around the steps", "table and exit")


def run(quick: bool) -> Section:
    """Backfills of one month and of several."""
    lengths = [1, 3] if quick else [1, 3, 12]
    with workplace() as place:
        months = place.publish_range(FIRST, max(lengths))
        _parts(place, months[:1])
        taken = {length: _parts(place, months[:length]) for length in lengths}
    _plot(taken)
    return Section(
        "Where the seconds go",
        [],
        ["part of `taxi backfill`, s", *(f"{length} months" for length in lengths)],
        [[part, *(f"{taken[length][part]:.2f}" for length in lengths)] for part in PARTS],
        ["run_seconds.png"],
    )


def _parts(place: Workplace, months: list[date]) -> dict[str, float]:
    place.start_over()
    began = time.time()
    place.taxi("backfill", f"{months[0]:%Y-%m}", f"{months[-1]:%Y-%m}", "--reprocess", "completed")
    ended = time.time()
    with psycopg.connect(replace(place.target, dbname="dagster").url()) as connection:
        rows = connection.execute(
            """
            select dagster_event_type, step_key, extract(epoch from timestamp)::float8
            from event_logs
            where timestamp >= to_timestamp(%s) at time zone 'UTC'
              and dagster_event_type in ('STEP_START', 'STEP_SUCCESS', 'PIPELINE_START', 'PIPELINE_SUCCESS')
            order by id
            """,
            [began],
        ).fetchall()
    steps = {(kind, step): at for kind, step, at in rows}
    starts = [at for kind, _, at in rows if kind == "PIPELINE_START"]
    ends = [at for kind, _, at in rows if kind == "PIPELINE_SUCCESS"]
    load = steps["STEP_SUCCESS", "raw_trips"] - steps["STEP_START", "raw_trips"]
    dbt = steps["STEP_SUCCESS", "dbt_models"] - steps["STEP_START", "dbt_models"]
    return dict(
        zip(
            PARTS,
            (starts[0] - began, load, dbt, ends[-1] - starts[0] - load - dbt, ended - ends[-1]),
            strict=True,
        )
    )


def _plot(taken: dict[int, dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    left = [0.0] * len(taken)
    names = [f"{length} months" for length in taken]
    for part in PARTS:
        widths = [parts[part] for parts in taken.values()]
        axes.barh(names, widths, left=left, label=part)
        left = [so_far + width for so_far, width in zip(left, widths, strict=True)]
    axes.set(xlabel="seconds")
    axes.invert_yaxis()
    axes.legend(fontsize="small")
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / "run_seconds.png", dpi=90)
    plt.close(figure)
