"""What one month costs by the months that are loaded already, with load, models and tests each apart."""

import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context

import matplotlib.pyplot as plt

from bench.results import PLOTS, Goal, Section
from bench.workplace import FIRST_MONTH, Workplace, workplace
from taxi_orchestration.dbt.runner import invoke_dbt, prepared_project
from taxi_orchestration.months import next_month

PARTS = ("load", "models", "tests")


def run(quick: bool) -> Section:
    """The last month loaded and built again, several times, after 1, 50 and 150 months (quick: 1, 12 and 36)."""
    depths = [1, 12, 36] if quick else [1, 50, 150]
    again: dict[int, dict[str, float]] = {}
    with workplace() as place:
        months = place.publish_range(FIRST_MONTH, max(depths))
        place.start_over()
        loaded = 0
        for depth in depths:
            place.taxi("backfill", f"{months[loaded]:%Y-%m}", f"{months[depth - 1]:%Y-%m}")
            loaded = depth
            place.settle()
            # In a process of its own: dbt gets a little slower with each invocation inside one of click's commands.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                again[depth] = process.submit(_again, place, months[0], times=7).result()
    first, last = depths[0], depths[-1]
    goals = [
        Goal(
            f"one month again with {last} months loaded against {first}: {part}",
            again[last][part] / again[first][part],
            "×",
            at_most=1.15,
            measured=f"{again[last][part]:.2f} against {again[first][part]:.2f} s",
        )
        for part in PARTS
    ]
    _plot(again)
    return Section(
        "One month again, by months loaded",
        goals,
        ["months loaded", *(f"{part}, s" for part in PARTS)],
        [[str(depth), *(f"{seconds[part]:.2f}" for part in PARTS)] for depth, seconds in again.items()],
        ["history.png"],
        "The same month each time; medians.",
    )


def _again(place: Workplace, month: date, times: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {part: [] for part in PARTS}
    settings = place.settings
    artifacts = prepared_project(settings)
    window = json.dumps({"window_start": str(month), "window_end": str(next_month(month))})
    with place.loader() as loader:
        for _ in range(times):
            seconds["load"].append(loader.load_month(month).seconds)
            for part, command in (("models", "run"), ("tests", "test")):
                arguments = ["--quiet", command, "--exclude-resource-type", "unit_test", "--vars", window]
                if command == "run":
                    arguments = ["--quiet", command, "--vars", window]
                start = time.perf_counter()
                outcome = invoke_dbt(arguments, loader.warehouse, artifacts)
                seconds[part].append(time.perf_counter() - start)
                if outcome.error:
                    raise outcome.error
    return {part: statistics.median(taken) for part, taken in seconds.items()}


def _plot(again: dict[int, dict[str, float]]) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for part in PARTS:
        axes.plot(list(again), [seconds[part] for seconds in again.values()], marker="o", label=part)
    axes.set(xlabel="months loaded", ylabel="seconds for one month again")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / "history.png", dpi=90)
    plt.close(figure)
