"""`make dev`: `dagster dev` with a home of its own, whose first lines are true and whose log has what matters.

Dagster itself would take a temporary directory for what it keeps beside its storage, and say of it that it will be
removed; at its own level of logging it prints lists of months and what its daemon does every half minute.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from taxi_orchestration.cli.terminal import print_error, print_note
from taxi_orchestration.postgres.postmaster import HOST, is_free
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings, dagster_home, make_home

if TYPE_CHECKING:
    from collections.abc import Mapping

# Holds the address of the UI, and is locked while that runs.
_FILE = "dev.url"
_FAILED = 1


def start(settings: Settings, port: int) -> int:
    """Become `dagster dev`; returns an exit code where that cannot be, because it runs or its port is taken."""
    file = claim(settings, port, "make dev PORT=")
    if file is None:
        return _FAILED
    home = dagster_home() or make_dagster_home(settings)
    print_note(f"The Dagster UI comes up at http://{HOST}:{port} in some seconds. Ctrl-C stops it.")
    print_note(_history(settings))
    # Also after this process has become Dagster's, the file stays open, and locked for as long as that runs.
    os.set_inheritable(file.fileno(), True)
    os.chdir(home)
    program = str(Path(sys.executable).with_name("dagster"))
    arguments = ["dev", "--workspace", str(_workspace(settings))]
    # Its warnings are of itself: at the first start of two cursors that it makes.
    arguments += ["--host", HOST, "--port", str(port), "--log-level", "error"]
    if not _has_colours(os.environ):
        # Of Dagster's formats the only one without.
        arguments += ["--log-format", "json"]
    # Of its own parts Dagster warns in every process, and a user can do nothing about it.
    environment = {**os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    # Dagster ends its processes by interrupts, which a script ignores for whatever has an & behind it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(program, [program, *arguments], environment)  # noqa: S606 - the user's own


def claim(settings: Settings, port: int, other_port: str) -> TextIO | None:
    """The file that says where the UI of this home is, locked; None, with an error printed, where there is one already.

    Or where another program has the port: `other_port` is how to name another.
    """
    file = (make_home(settings) / _FILE).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print_error(f"The Dagster UI runs already, at {_read_url(file)}. Ctrl-C in its terminal stops it.")
        return None
    if not is_free(port):
        print_error(f"Port {port} is taken by another program. Choose another: {other_port}{port + 1}")
        return None
    file.truncate(0)
    file.write(f"http://{HOST}:{port}")
    file.flush()
    return file


def find_running(settings: Settings) -> str | None:
    """The address of the UI that `make dev` has started and that still runs; None where there is none."""
    path = settings.taxi_home / _FILE
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_url(file)
    return None


def _read_url(file: TextIO) -> str:
    file.seek(0)
    # It is locked before it is written.
    return file.read() or "an address that it has not said yet"


def make_dagster_home(settings: Settings) -> Path:
    """A directory in TAXI_HOME with the dagster.yaml of the checkout, for what Dagster keeps beside its storage."""
    home = (settings.taxi_home / "dagster").resolve()
    home.mkdir(exist_ok=True)
    link = home / "dagster.yaml"
    link.unlink(missing_ok=True)
    link.symlink_to(PROJECT_DIRECTORY / "dagster.yaml")
    return home


def _workspace(settings: Settings) -> Path:
    """The workspace.yaml of the checkout; for a student one with a code location of that name."""
    if settings.student is None:
        return PROJECT_DIRECTORY / "workspace.yaml"
    # Imported here: whoever names no student does without.
    import yaml

    from taxi_orchestration.instance.dagster_names import workspace

    folder = settings.taxi_home / "dagster"
    folder.mkdir(exist_ok=True)
    path = folder / f"workspace-{settings.student}.yaml"
    path.write_text(yaml.safe_dump(workspace(settings.student)))
    return path


def _history(settings: Settings) -> str:
    if settings.dagster_postgres_url is not None:
        return "Its history is kept in the PostgreSQL of DAGSTER_POSTGRES_URL."
    home = settings.taxi_home
    return f"Its history is kept in the embedded PostgreSQL in {home}, which goes on until you stop it: taxi stop"


def _has_colours(environment: Mapping[str, str]) -> bool:
    return sys.stdout.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
