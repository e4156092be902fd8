"""The report's file: read, rendered, and put in its place whole."""

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
    """Where the page is kept: report.html in TAXI_HOME, with a student's name for each who shares that."""
    return make_home(settings) / (f"report-{settings.student}.html" if settings.student else "report.html")


def write_report(warehouse: Warehouse, now: datetime, checks: Mapping[date, tuple[int, int]], path: Path) -> Frames:
    """Write the page and return the frames that it shows. `checks` are those of `read_frames`.

    Raises WarehouseError, and OSError where the file cannot be written; the one before then stays.
    """
    with ThreadPoolExecutor(1) as pool:
        # A second of work for the page that it can find done when PostgreSQL has added up its own.
        pool.submit(read_script)
        frames = read_frames(warehouse, now, checks)
    page = render_page(frames)
    if path.exists() and not path.is_file():
        # A pipe or a device, which cannot be replaced.
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
