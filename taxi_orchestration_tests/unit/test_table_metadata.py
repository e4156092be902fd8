"""What the UI shows of a table."""

import pytest

from taxi_orchestration.defs.table_metadata import format_bytes


@pytest.mark.parametrize(
    ("size", "shown"), [(1_300_000, "1.3 MB"), (100_000, "0.1 MB"), (99_900, "99.9 kB"), (1_234_567_890, "1,234.6 MB")]
)
def test_a_size_is_shown_in_megabytes_and_a_small_one_in_kilobytes(size: int, shown: str) -> None:
    assert format_bytes(size) == shown
