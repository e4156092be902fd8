"""What the tests of faults share: `taxi` in processes that can be killed, and a stranger who holds locks."""

from collections.abc import Callable, Iterator

import pytest

from taxi_orchestration_tests.support.programs import Programs


@pytest.fixture
def programs() -> Iterator[Programs]:
    """Starts programs."""
    made = Programs()
    yield made
    made.end()


@pytest.fixture
def backfill() -> Callable[..., int]:
    """`taxi backfill` in this process, which has all imports behind it; returns the exit code."""
    from taxi_orchestration.cli.commands import main

    def run(*arguments: str) -> int:
        try:
            main(["backfill", *arguments], standalone_mode=False)
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run
