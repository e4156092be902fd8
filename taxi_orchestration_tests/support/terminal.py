"""Running a program on a pseudo-terminal, as a user sees it."""

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
class TerminalOutput:
    """The exit code of a program, and its output on the terminal and through a pipe."""

    returncode: int
    screen: str
    piped: str

    @property
    def text(self) -> str:
        """Return the screen without escape sequences."""
        return ESCAPE.sub("", self.screen)

    @property
    def lines(self) -> list[str]:
        """Return every line that was on the screen at any time."""
        return [line for line in re.split(r"[\r\n]+", self.text) if line.strip()]


def run_on_terminal(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    pipes_output: bool = False,
    typed: str = "",
    columns: int = 80,
    cwd: Path | None = None,
) -> TerminalOutput:
    """Run a program on a terminal with `columns` columns, and return its output.

    With `pipes_output` only errors and prompts go to the terminal; the output goes through a pipe.
    """
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, columns))
    written: list[bytes] = []

    def read() -> None:
        # Linux reports an error, not the end of file, when no process has the terminal open any more.
        try:
            while data := os.read(controller, 65_536):
                written.append(data)
        except OSError:
            return

    reader = threading.Thread(target=read)
    with subprocess.Popen(
        command,
        stdin=terminal,
        stdout=subprocess.PIPE if pipes_output else terminal,
        stderr=terminal,
        env={"TERM": "xterm-256color", **environment},
        cwd=cwd,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        reader.start()
        os.write(controller, typed.encode())
        piped, _ = process.communicate(timeout=240)
    reader.join()
    os.close(controller)
    return TerminalOutput(process.returncode, b"".join(written).decode(errors="replace"), (piped or b"").decode())
