"""The question of `make clean-data` before it removes anything, and what it removes where directories are links."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from taxi_orchestration.cli.data import describe_data, remove_data
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


def make_files(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_home_that_is_a_link_is_emptied_and_kept(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    make_files(disk / "step_logs" / "run.out", disk / "report.html")
    home.symlink_to(disk)
    remove_data(load_settings(taxi_home=home))
    assert home.is_symlink()
    assert list(disk.iterdir()) == []


def test_a_data_directory_that_is_a_link_is_removed_with_its_target(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    make_files(disk / "data" / "PG_VERSION", home / "postgres" / "server.json")
    (home / "postgres" / "data").symlink_to(disk / "data")
    record = {"id": "1", "password": "", "port": 1, "data": "data", "complete": True}
    (home / "postgres" / "server.json").write_text(json.dumps(record))
    remove_data(load_settings(taxi_home=home))
    assert not home.exists()
    assert list(disk.iterdir()) == []


def test_a_directory_of_the_home_that_is_a_link_is_removed_with_its_target(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    make_files(disk / "postgres" / "data" / "PG_VERSION", disk / "notes.txt", home / "step_logs" / "run.out")
    (home / "postgres").symlink_to(disk / "postgres")
    remove_data(load_settings(taxi_home=home))
    assert not home.exists()
    assert [path.name for path in disk.iterdir()] == ["notes.txt"]
