"""Run `pip install ARGUMENTS` and show its progress on one line. Works with the Python of an empty environment.

pip itself prints nothing for a minute with --quiet, and 500 lines without. uv, if installed, takes half as long; it
does not read pip.conf, so pip runs if uv fails.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque

COMMAND = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
DOWNLOAD = re.compile(
    r"\s*(?:Downloading|Using cached|Processing) (?:\S*/)?([A-Za-z0-9_.]+)-\S+?(?: \(([\d.]+) ([kMG]?B)\))?$"
)
MEGABYTES = {"B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}
# Without a terminal only packages from this size on are printed.
LARGE_MB = 10.0
KEPT_LINES = 20
WIDTH = 79


def main(arguments: list[str]) -> int:
    """Install the packages, and return pip's exit code. If pip fails, the end of its output is printed."""
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    began = time.monotonic()
    if install_with_uv(arguments):
        print(f"The environment is ready, after {time.monotonic() - began:.0f} s with uv.", file=sys.stderr)
        return 0
    last: deque[str] = deque(maxlen=KEPT_LINES)
    packages, megabytes = 0, 0.0

    def show(text: str) -> None:
        if is_terminal:
            sys.stderr.write(f"\r\x1b[K{text[:WIDTH]}")
            sys.stderr.flush()

    with subprocess.Popen(  # noqa: S603 - the arguments come from the Makefile
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        for line in pip.stdout or ():
            last.append(line)
            if line.startswith("Collecting "):
                show(f"Choosing versions: {line.split()[1]}")
            elif ".metadata" not in line and (found := DOWNLOAD.match(line.rstrip())):
                name, size, unit = found.groups()
                size_mb = float(size) * MEGABYTES[unit] if size else 0.0
                packages, megabytes = packages + 1, megabytes + size_mb
                show(f"{packages} packages, {megabytes:,.1f} MB: {name}")
                if not is_terminal and size_mb >= LARGE_MB:
                    print(f"  {name}, {size_mb:,.1f} MB", file=sys.stderr, flush=True)
            elif line.startswith("Installing collected packages"):
                number = line.count(",") + 1
                show(f"Installing {number} package{'' if number == 1 else 's'}, {megabytes:,.1f} MB ...")
    show("")
    if pip.returncode:
        print("".join(last), file=sys.stderr)
    else:
        print(f"The environment is ready, after {time.monotonic() - began:.0f} s.", file=sys.stderr)
    return pip.returncode


def install_with_uv(arguments: list[str]) -> bool:
    """Install with the uv on PATH, and return whether uv exists and succeeded."""
    uv = shutil.which("uv")
    command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", sys.executable, *arguments]
    return uv is not None and subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0  # noqa: S603


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
