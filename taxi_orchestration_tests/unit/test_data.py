"""The question of `make clean-data` before it removes anything."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from taxi_orchestration.cli.data import describe_data
from taxi_orchestration.settings import load_settings


@pytest.mark.parametrize(
    ("students", "expected"),
    [
        ([], "logs and artifacts"),
        (["ada"], "logs and artifacts and the settings and passwords of 1 student"),
        (["ada", "bob"], "logs and artifacts and the settings and passwords of 2 students"),
    ],
)
def test_the_question_names_the_passwords_of_students(students: Sequence[str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    for name in students:
        (tmp_path / "class" / name).mkdir()
        (tmp_path / "class" / name / "settings.env").write_text("PG_PASSWORD=s3cret")
    assert describe_data(load_settings(taxi_home=tmp_path)) == expected
