"""A local HTTP server for the TLC's real months."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taxi_orchestration.postgres.postmaster import free_port


@contextmanager
def mirror(directory: Path, overlay: Path | None = None) -> Iterator[str]:
    """Run the mirror on a free port for the duration of the block. Files in `overlay` replace those of the mirror."""
    port = free_port()
    command = [sys.executable, str(directory / "mirror.py"), "--port", str(port)]
    command += ["--overlay", str(overlay)] if overlay else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
