"""Every command of the documentation, run in page order from an empty home; its output must equal the page.

The commands run in a copy of the checkout, because lessons edit files. CI uses synthetic copies of the real months
(support/documented_months.py) and skips the blocks marked `slow`. `make check-docs` runs all blocks, on the real months
if they are beside the checkout.
"""

import difflib
import doctest
import io
import os
import resource
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from taxi_orchestration.postgres.server import remove
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET
from taxi_orchestration_tests.support.documented_months import ROWS_AND_PICKUPS_OUTSIDE, documented_month
from taxi_orchestration_tests.support.mirror import mirror
from taxi_orchestration_tests.support.pages import Example, pages
from taxi_orchestration_tests.support.tlc_host import TlcHost

ALL = os.environ.get("CHECK_DOCS") == "all"
EXAMPLES = [example for page in pages() for example in page.examples()]
NOT_CLONED = {".git", ".venv", ".taxi", "__pycache__", "target", ".pytest_cache", ".mypy_cache", ".ruff_cache"}


def is_run(example: Example) -> bool:
    block = example.block
    return "airflow" not in block.marks and block.test is None and (ALL or "slow" not in block.marks)


@pytest.fixture
def base_url(tlc: TlcHost) -> Iterator[str]:
    """The URL of a download host with five months: real ones for `make check-docs` if available, else synthetic."""
    real = PROJECT_DIRECTORY.parent / "shared" / "tlc"
    if ALL and real.is_dir():
        with mirror(real) as url:
            yield url
        return
    for month in ROWS_AND_PICKUPS_OUTSIDE:
        tlc.publish_bytes(month, documented_month(month))
    yield tlc.url


@contextmanager
def fresh_clone(directory: Path) -> Iterator[Path]:
    """Make a copy of the checkout like a new clone, with an environment and no home, for the duration of the block."""
    checkout = directory / "checkout"
    shutil.copytree(PROJECT_DIRECTORY, checkout, ignore=lambda _, names: NOT_CLONED.intersection(names))
    environment = checkout / ".venv"
    environment.mkdir()
    for part in (PROJECT_DIRECTORY / ".venv").iterdir():
        (environment / part.name).symlink_to(part)
    for name in (".installed", ".installed-dev"):
        # The stamp must be newer than its prerequisites, as after `make`.
        (environment / name).unlink(missing_ok=True)
        (environment / name).touch()
    git = ["git", "-c", "user.name=docs", "-c", "user.email=docs@example.org"]
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "As cloned"]):
        subprocess.run([*git, *command], cwd=checkout, check=True)
    try:
        yield checkout
    finally:
        remove(checkout / ".taxi")


def run_example(example: Example, checkout: Path, base_url: str) -> list[str]:
    """Run an example, and return the differences of its exit code and output from the page."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "TAXI"))}
    variables |= {"HOME": str(checkout.parent), "PYTHONPATH": str(checkout), "TLC_BASE_URL": base_url, "COLUMNS": "100"}
    done = subprocess.run(
        ["bash", "-e", "-c", example.block.text],
        cwd=checkout,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
    wrong = []
    if (done.returncode != 0) != ("fails" in example.block.marks):
        wrong.append(f"ended with {done.returncode}\n{printed}")
    elif example.shown is not None and not is_shown(printed, example.shown):
        wrong += difflib.unified_diff(example.shown.splitlines(), printed.splitlines(), "the page", "here", lineterm="")
    return wrong


def measure_cpu_seconds() -> float:
    """Return the CPU seconds of all ended commands, which a busy machine changes little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def is_shown(printed: str, shown: str) -> bool:
    """Return whether a page shows the output; its `...` stands for any text."""
    return doctest.OutputChecker().check_output(f"{shown.rstrip()}\n", f"{printed.rstrip()}\n", doctest.ELLIPSIS)


@pytest.mark.timeout(3600)
def test_every_command_of_the_pages_prints_what_they_show(
    base_url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wrong = []
    # A short path, because the kernel allows 107 characters for the path of a socket.
    with fresh_clone(tmp_path_factory.mktemp("docs")) as checkout:
        for example in filter(is_run, EXAMPLES):
            began, used = time.monotonic(), measure_cpu_seconds()
            found = run_example(example, checkout, base_url)
            seconds = f"{time.monotonic() - began:6.1f} s, {measure_cpu_seconds() - used:5.1f} s of CPU"
            print(f"{seconds}  {example.block.place}{'  WRONG' if found else ''}", flush=True)
            if found:
                wrong.append("\n".join([f"{example.block.place}:", example.block.text, *found]))
    assert not wrong, "\n\n".join(["", *wrong])


@pytest.mark.real_data
@pytest.mark.parametrize("month", ROWS_AND_PICKUPS_OUTSIDE, ids=str)
def test_a_synthetic_file_has_as_many_pickups_per_month_as_the_real_file(month: date, real_months: Path) -> None:
    real = pq.read_table(real_months / "trip-data" / DATASET.file_name(month), columns=[DATASET.pickup])
    synthetic = pq.read_table(io.BytesIO(documented_month(month)), columns=[DATASET.pickup])
    by_month = [
        Counter(pickup.strftime("%Y-%m") for pickup in table.column(0).to_pylist()) for table in (real, synthetic)
    ]
    assert by_month[0] == by_month[1]


@pytest.mark.parametrize("example", [e for e in EXAMPLES if "slow" in e.block.marks], ids=lambda e: e.block.place)
def test_a_block_that_is_too_slow_for_ci_is_run_by_make_check_docs(example: Example) -> None:
    if not ALL:
        pytest.skip(f"slow: {example.block.text.splitlines()[0]}")


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("5 rows in 1.3 s\n", "5 rows in ... s\n", True),
        ("6 rows in 1.3 s\n", "5 rows in ... s\n", False),
        ("a\nb\nc\n", "a\n...\nc\n", True),
        ("a\n", "a\nb\n", False),
    ],
)
def test_output_may_differ_only_where_the_page_has_an_ellipsis(printed: str, shown: str, same: bool) -> None:
    assert is_shown(printed, shown) is same
