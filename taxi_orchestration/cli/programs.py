"""Other programs in the place of this one: those of this environment, which stand beside its Python, and psql."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn


class ProgramError(Exception):
    """A program could not be started; the message says why."""


def program_command(name: str, *arguments: str) -> list[str]:
    """Return the command line of a program of this environment, whatever PATH says."""
    return [str(Path(sys.executable).with_name(name)), *arguments]


def become(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by another program, so that Ctrl-C reaches that one alone. Raises ProgramError."""
    program = Path(command[0])
    try:
        os.execve(program, list(command), environment)  # noqa: S606 - a path, no shell
    except OSError as error:
        is_incomplete = isinstance(error, FileNotFoundError) and program.parent == Path(sys.executable).parent
        advice = (
            f" The environment {sys.prefix} is incomplete. Remove it and install the project again; in a checkout: "
            "make clean, and then make backfill."
        )
        raise ProgramError(
            f"{program} cannot be started: {error.strerror}.{advice if is_incomplete else ''}"
        ) from error
