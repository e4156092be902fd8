"""`taxi backfill` of 3 and of 36 months beside the course's pipeline, and what each month more costs."""

from datetime import date

import matplotlib.pyplot as plt

from bench import baselines
from bench.results import PLOTS, Goal, Section
from bench.workplace import MONTH_ROWS, Workplace, workplace

FIRST = date(2022, 1, 1)
# What Airflow took for the same, in units of the course's way for one month: 77 to 91 s for three months where one
# month took 16 s, and about 26 s for each month more.
COURSE_OF = {3: 4.9, 36: 58.0}


def run(quick: bool) -> Section:
    """Each backfill into an empty schema, environment and server ready."""
    lengths = [1, 3, 12] if quick else [1, 3, 12, 36]
    with workplace() as place:
        months = place.publish_range(FIRST, max(lengths))
        # The first run of all parses the dbt project: that belongs to the environment.
        _backfill(place, months[:1])
        seconds = {length: min(_backfill(place, months[:length]) for _ in range(2)) for length in lengths}
        course = baselines.course(place, months[0])
    longest = max(lengths)
    each = (seconds[longest] - seconds[3]) / (longest - 3)
    goals = [
        Goal(
            f"backfill of {length} months against {factor} × the course's load of one",
            factor * course / seconds[length],
            "×",
            at_least=6 if length == 3 else 30,
            measured=f"{seconds[length]:.1f} s against {factor * course:.0f} s",
        )
        for length, factor in COURSE_OF.items()
        if length in seconds
    ]
    goals.append(Goal(f"each month more of {MONTH_ROWS:,} rows, raw to marts and checks", each, "s", at_most=0.4))
    _plot(seconds, course)
    return Section(
        "Backfills",
        goals,
        ["months", "taxi backfill, s", "the course's pipeline, s"],
        [
            [str(length), f"{taken:.1f}", f"{COURSE_OF[length] * course:.0f}" if length in COURSE_OF else ""]
            for length, taken in seconds.items()
        ],
        ["backfills.png"],
        f"The course's load of one month of {MONTH_ROWS:,} rows took {course:.1f} s in the same run. Its pipeline is "
        "given in units of that, as it was measured with Airflow.",
    )


def _backfill(place: Workplace, months: list[date]) -> float:
    place.start_over()
    return place.taxi("backfill", f"{months[0]:%Y-%m}", f"{months[-1]:%Y-%m}", "--reprocess", "completed")


def _plot(seconds: dict[int, float], course: float) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    axes.plot(list(seconds), list(seconds.values()), marker="o", label="taxi backfill")
    axes.plot(
        list(COURSE_OF), [factor * course for factor in COURSE_OF.values()], marker="s", label="the course's pipeline"
    )
    axes.set(yscale="log", xlabel=f"months of {MONTH_ROWS:,} rows", ylabel="seconds, raw to marts and checks")
    axes.grid(alpha=0.3)
    axes.legend()
    PLOTS.mkdir(exist_ok=True)
    figure.savefig(PLOTS / "backfills.png", dpi=90)
    plt.close(figure)
