"""Shared fixtures of the fault tests: `taxi backfill` in this process."""

from collections.abc import Callable

import pytest


@pytest.fixture
def backfill() -> Callable[..., int]:
    """A function that runs `taxi backfill` in this process, without the time for imports, and returns the exit code."""
    from taxi_orchestration.cli.commands import main

    def run(*arguments: str) -> int:
        try:
            main(["backfill", *arguments], standalone_mode=False)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
