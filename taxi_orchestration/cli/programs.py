"""Programs of this environment, which stand beside its Python, and not on PATH."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from taxi_orchestration.settings import SettingsError


def program_command(name: str, *arguments: str) -> list[str]:
    """Return the command line of a program of this environment."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by another program, so that Ctrl-C reaches that one alone.

    Raises SettingsError for a program that is missing or cannot be executed.
    """
    try:
        os.execve(command[0], list(command), environment)  # noqa: S606 - a path, no shell
    except OSError as error:
        raise SettingsError(
            f"{command[0]} cannot be started: {error.strerror}. The environment is incomplete. Remove .venv, and run "
            "the command of make again."
        ) from error
