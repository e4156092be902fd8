"""The redirection of a step's output to its log."""

import os
import sys
from pathlib import Path

import pytest

from taxi_orchestration.instance.storage import _redirected


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full stands for a full disk")
def test_output_goes_to_the_terminal_again_after_the_disk_of_the_log_was_full(tmp_path: Path) -> None:
    terminal = tmp_path / "terminal"
    with terminal.open("w") as stream:
        with pytest.raises(OSError, match="No space left on device"), _redirected(stream, Path("/dev/full")):
            stream.write("of the step")
        os.write(stream.fileno(), b"after the step")
    assert "after the step" in terminal.read_text()
