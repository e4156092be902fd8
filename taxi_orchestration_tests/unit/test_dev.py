"""`make dev` up to the start of `dagster dev`, which a stand-in replaces."""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from taxi_orchestration.cli import dev
from taxi_orchestration.cli.programs import ProgramError
from taxi_orchestration.settings import load_settings


class StartedError(Exception):
    """Raised in place of the start of another program."""


def test_a_relative_taxi_home_is_the_same_directory_for_dagster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(command: Sequence[str], environment: Mapping[str, str]) -> None:
        monkeypatch.setenv("TAXI_HOME", environment["TAXI_HOME"])
        raise StartedError

    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TAXI_HOME", "state")
    monkeypatch.setattr(dev, "become", record)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with (tmp_path / "lock").open("w") as lock:
            monkeypatch.setattr(dev, "claim", lambda *_: lock)
            with pytest.raises(StartedError):
                dev.start(load_settings(), 3000)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert os.getcwd() != str(tmp_path)
    assert load_settings().taxi_home == tmp_path / "state"


@pytest.mark.parametrize(
    ("port", "message"),
    [
        (80, "Port 80 is taken by another program, or only root may use it. Choose another: make dev PORT=3001"),
        (3000, "Port 3000 is taken by another program. Choose another: make dev PORT=3001"),
        (65535, "Port 65535 is taken by another program. Choose another: make dev PORT=3001"),
    ],
)
def test_a_port_that_cannot_be_used_is_reported_with_one_that_can(
    port: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "is_free", lambda port: False)
    with pytest.raises(ProgramError) as raised:
        dev.claim(load_settings(taxi_home=tmp_path), port, "make dev PORT=")
    assert str(raised.value) == message
