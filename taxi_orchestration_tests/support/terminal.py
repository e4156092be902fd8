"""A program on a pseudo-terminal, as a person has it before them."""

import os
import pty
import re
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[0-9;]+)m")


@dataclass(frozen=True)
class Shown:
    """The exit code of a program, and its output on the terminal and through a pipe."""

    returncode: int
    screen: str
    piped: str

    @property
    def text(self) -> str:
        """The screen without its escape sequences."""
        return ESCAPE.sub("", self.screen)

    @property
    def lines(self) -> list[str]:
        """Every line that was there at some moment."""
        return [line for line in re.split(r"[\r\n]+", self.text) if line.strip()]


def run_on_terminal(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    pipes_output: bool = False,
    typed: str = "",
    columns: int = 80,
    cwd: Path | None = None,
) -> Shown:
    """Run a program on a terminal of so many columns; with `pipes_output` only its errors and questions go there."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, columns))
    written: list[bytes] = []

    def read() -> None:
        # Linux ends a terminal that nobody holds any more with an error.
        try:
            while data := os.read(ours, 65_536):
                written.append(data)
        except OSError:
            return

    reader = threading.Thread(target=read)
    with subprocess.Popen(
        command,
        stdin=theirs,
        stdout=subprocess.PIPE if pipes_output else theirs,
        stderr=theirs,
        env={"TERM": "xterm-256color", **environment},
        cwd=cwd,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        reader.start()
        os.write(ours, typed.encode())
        piped, _ = process.communicate(timeout=240)
    reader.join()
    os.close(ours)
    return Shown(process.returncode, b"".join(written).decode(errors="replace"), (piped or b"").decode())
