"""`make dev`: `dagster dev` with a lasting DAGSTER_HOME, and a log of errors only.

By default `dagster dev` uses a temporary home, which it announces to remove, and its log lists months and each tick of
the daemon.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TextIO

from taxi_orchestration.cli.programs import ProgramError, become, program_command
from taxi_orchestration.cli.terminal import print_note
from taxi_orchestration.postgres.postmaster import HOST, is_free
from taxi_orchestration.settings import PROJECT_DIRECTORY, Settings, dagster_home, make_home

if TYPE_CHECKING:
    from collections.abc import Mapping

# Holds the address of the UI, and is locked while the UI runs.
_FILE = "dev.url"


def start(settings: Settings, port: int) -> NoReturn:
    """Replace this process by `dagster dev`. Raises ProgramError if the UI runs already or its port is taken."""
    file = claim(settings, port, "make dev PORT=")
    home = dagster_home() or make_dagster_home(settings)
    print_note(f"The Dagster UI starts at http://{HOST}:{port} in some seconds. Ctrl-C stops it.")
    print_note(_history(settings))
    # Dagster inherits the open file, and so the lock, which filelock cannot hand over.
    os.set_inheritable(file.fileno(), True)
    os.chdir(home)
    command = program_command("dagster", "dev", "--workspace", str(_workspace(settings)))
    # Dagster's warnings at its first start concern only its own cursors.
    command += ["--host", HOST, "--port", str(port), "--log-level", "error"]
    if not _has_colours(os.environ):
        # The only log format of Dagster without colours.
        command += ["--log-format", "json"]
    environment = {**os.environ, **dagster_variables(settings, home)}
    # Dagster ends its processes by SIGINT, which a shell script sets to ignored for background commands.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    become(command, environment)


def claim(settings: Settings, port: int, other_port: str) -> TextIO:
    """Lock and return the file with the address of this home's UI.

    Raises ProgramError if a UI runs already, or if the port cannot be used; `other_port` is the option that selects
    another.
    """
    file = (make_home(settings) / _FILE).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        reason = f"The Dagster UI runs already at {_read_url(file)}. Ctrl-C in its terminal stops it."
        raise ProgramError(reason) from None
    if not is_free(port):
        is_roots = port < 1024
        reason = "is taken by another program, or only root may use it" if is_roots else "is taken by another program"
        other = 3001 if is_roots or port == 65535 else port + 1
        raise ProgramError(f"Port {port} {reason}. Choose another: {other_port}{other}")
    file.truncate(0)
    file.write(f"http://{HOST}:{port}")
    file.flush()
    return file


def find_running(settings: Settings) -> str | None:
    """Return the address of the running UI of `make dev`; None if none runs."""
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
    # The file is locked before it is written.
    return file.read() or "an address that is not known yet"


def make_dagster_home(settings: Settings) -> Path:
    """Create a DAGSTER_HOME in TAXI_HOME with the dagster.yaml of the checkout."""
    home = (settings.taxi_home / "dagster").resolve()
    home.mkdir(exist_ok=True)
    link = home / "dagster.yaml"
    link.unlink(missing_ok=True)
    link.symlink_to(PROJECT_DIRECTORY / "dagster.yaml")
    return home


def dagster_variables(settings: Settings, home: Path) -> dict[str, str]:
    """Return the variables of Dagster's programs, whatever directory they run in."""
    # TAXI_HOME may be relative. Dagster warns of its own parts in every process, which a user cannot change.
    return {"DAGSTER_HOME": str(home), "TAXI_HOME": str(settings.taxi_home), "PYTHONWARNINGS": "ignore"}


def _workspace(settings: Settings) -> Path:
    """Return the workspace.yaml of the checkout, or write one with a student's code location."""
    if settings.student is None:
        return PROJECT_DIRECTORY / "workspace.yaml"
    # Imported here: only a student needs it.
    import yaml

    from taxi_orchestration.instance.dagster_names import workspace

    folder = settings.taxi_home / "dagster"
    folder.mkdir(exist_ok=True)
    path = folder / f"workspace-{settings.student}.yaml"
    path.write_text(yaml.safe_dump(workspace(settings.student)))
    return path


def _history(settings: Settings) -> str:
    if own := dagster_home():
        return f"Its history is kept where {own}/dagster.yaml says."
    if settings.dagster_postgres_url is not None:
        return "Its history is kept in the PostgreSQL of DAGSTER_POSTGRES_URL."
    home = settings.taxi_home
    return f"Its history is kept in the embedded PostgreSQL in {home}, which runs until you stop it: taxi stop"


def _has_colours(environment: Mapping[str, str]) -> bool:
    return sys.stdout.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
