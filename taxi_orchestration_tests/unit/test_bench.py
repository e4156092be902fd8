"""The stored results of `make bench`, and the figures that the documentation pages quote."""

import json
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.plots import line_plot
from bench.results import QUOTE, Goal, Results, Section, pages
from bench.runner import FAILED, MISSED, run_benchmarks


def make_section(figure: float) -> Section:
    return Section(
        "Loads",
        [Goal("a load", figure, "s", at_most=2, reason="the disk")],
        ["rows"],
        [["57,000"]],
        quotes={"load": "1 s"},
    )


def fail() -> Section:
    raise RuntimeError("no server\nhere")


def test_a_benchmark_that_fails_is_reported_and_the_others_are_kept(tmp_path: Path) -> None:
    results, names = Results(tmp_path), ["load", "ui", "volume"]
    benchmarks = {"ui": fail, "load": lambda: make_section(1)}
    assert run_benchmarks(benchmarks, names, "abc", results, Console(quiet=True)) == FAILED
    report = (tmp_path / "RESULTS.md").read_text()
    assert "Commit abc" in report
    assert "1 of 1 goals met" in report
    assert re.search(r"five million additions in Python took [\d.]+ to [\d.]+ s\.", report)
    assert "Failed: ui (RuntimeError: no server here)." in report
    assert "Not run: volume." in report
    assert "| a load | 1.00 s | ≤ 2 | yes |  |  |" in report
    assert results.quotable() == {"load": "1 s"}


def test_a_goal_that_is_missed_is_in_the_report_and_the_exit_code(tmp_path: Path) -> None:
    assert (
        run_benchmarks({"load": lambda: make_section(3)}, ["load"], "abc", Results(tmp_path), Console(quiet=True))
        == MISSED
    )
    assert "| a load | 3.00 s | ≤ 2 | **no** |  | the disk |" in (tmp_path / "RESULTS.md").read_text()


def test_results_of_another_version_are_not_joined(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert not results.is_of("abc"), "a run of one benchmark would start a new report"
    results.keep("load", "abc", 1, make_section(1), "")
    assert results.is_of("abc")
    assert not results.is_of("abd")
    (kept,) = (tmp_path / "results").iterdir()
    assert json.loads(kept.read_text())["section"]["title"] == "Loads"
    results.start_over()
    assert results.quotable() == {}


def test_plots_are_kept_only_with_results(tmp_path: Path) -> None:
    def make_section_with_plot() -> Section:
        return replace(
            make_section(1),
            plots={"load.png": line_plot({"a": {1: 2.5, 10: 3}, "b": {1: 2, 10: 30}}, "months", "seconds", log_y=True)},
        )

    assert run_benchmarks({"load": make_section_with_plot}, ["load"], "abc", None, Console(quiet=True)) == 0
    assert not list(tmp_path.iterdir())
    run_benchmarks({"load": make_section_with_plot}, ["load"], "abc", Results(tmp_path), Console(quiet=True))
    assert (tmp_path / "plots" / "load.png").read_bytes().startswith(b"\x89PNG")
    assert "![Loads](plots/load.png)" in (tmp_path / "RESULTS.md").read_text()


def test_every_figure_that_a_page_quotes_is_that_of_the_benchmarks() -> None:
    figures = Results().quotable()
    quotes = [(name, text) for page in pages() for text, _, name in QUOTE.findall(page.read_text(encoding="utf-8"))]
    assert quotes
    assert [(name, text) for name, text in quotes if figures.get(name) != text] == []
