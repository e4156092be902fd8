"""`make dev` up to the start of `dagster dev`, which a stand-in replaces."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from taxi_orchestration.cli import dev
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import load_settings


class StartedError(Exception):
    """Raised in place of the start of another program."""


def test_a_relative_taxi_home_is_the_same_directory_for_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(command: Sequence[str], environment: Mapping[str, str]) -> None:
        monkeypatch.setenv("TAXI_HOME", environment["TAXI_HOME"])
        raise StartedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAXI_HOME", "state")
    monkeypatch.setattr(dev, "become", record)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(StartedError):
            dev.start(load_settings(), free_port())
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert os.getcwd() != str(tmp_path)
    assert load_settings().taxi_home == tmp_path / "state"
