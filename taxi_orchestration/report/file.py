"""The report's file: frames read, page rendered, file replaced atomically."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path

from taxi_orchestration.report.drawing import read_script
from taxi_orchestration.report.frames import Frames
from taxi_orchestration.report.page import render_page
from taxi_orchestration.report.read import read_frames
from taxi_orchestration.settings import Settings, make_home
from taxi_orchestration.warehouse.warehouse import Warehouse


def report_path(settings: Settings) -> Path:
    """Return the path of the page: report.html in TAXI_HOME, with the student's name if there is one."""
    return make_home(settings) / (f"report-{settings.student}.html" if settings.student else "report.html")


def write_report(warehouse: Warehouse, now: datetime, checks: Mapping[date, tuple[int, int]], path: Path) -> Frames:
    """Write the page and return its frames. `checks` is the argument of `read_frames`.

    Raises WarehouseError, and OSError if the file cannot be written; the previous file then stays.
    """
    with ThreadPoolExecutor(1) as pool:
        # The script takes a second, during which PostgreSQL computes the frames.
        pool.submit(read_script)
        frames = read_frames(warehouse, now, checks)
    page = render_page(frames)
    if path.exists() and not path.is_file():
        # A pipe or a device cannot be replaced.
        path.write_text(page, encoding="utf-8")
        return frames
    path = path.resolve()
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return frames
