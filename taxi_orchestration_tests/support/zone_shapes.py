"""A synthetic map of the taxi zones in the TLC's zip format: a column of squares with wavy borders."""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import shapefile

LEFT, BOTTOM, SIDE = 980_000, 180_000, 5_000
Square = tuple[int, int, str, str]
"""OBJECTID, LocationID, zone and borough of a square of a synthetic map."""

ISLANDS = "Governor's Island/Ellis Island/Liberty Island"
SYNTHETIC_SQUARES: list[Square] = [
    (1, 1, "Newark Airport", "EWR"),
    (2, 2, "Jamaica Bay", "Queens"),
    (56, 56, "Corona", "Queens"),
    (57, 56, "Corona", "Queens"),
    (103, 103, ISLANDS, "Manhattan"),
    (104, 103, ISLANDS, "Manhattan"),
    (105, 103, ISLANDS, "Manhattan"),
]


def wavy_border(x0: float, x1: float, y: float) -> list[tuple[float, float]]:
    """Return a border from left to right, equal for both neighbours, with details that a simplification removes."""
    return [(float(x), y + 40 * np.sin(x / 70)) for x in np.linspace(x0, x1, 60)]


def square(position: int) -> list[tuple[float, float]]:
    """Return a square of the column, clockwise; its upper border is the lower border of the next square."""
    low, high = BOTTOM + position * SIDE, BOTTOM + (position + 1) * SIDE
    return [
        *wavy_border(LEFT, LEFT + SIDE, high),
        *reversed(wavy_border(LEFT, LEFT + SIDE, low)),
        (LEFT, high + 40 * np.sin(LEFT / 70)),
    ]


def write_zone_shapes(
    path: Path,
    squares: Sequence[Square] = SYNTHETIC_SQUARES,
    folder: str = "taxi_zones/",
    outline: Callable[[int], list[tuple[float, float]]] = square,
    leave_out: str = "",
    kind: int = shapefile.POLYGON,
) -> Path:
    """Write a synthetic map in the TLC's zip format, and return its path."""
    parts = {suffix: io.BytesIO() for suffix in ("shp", "shx", "dbf")}
    with shapefile.Writer(**parts, shapeType=kind) as writer:
        for name, kind_of_field, size in (
            ("OBJECTID", "N", 9),
            ("zone", "C", 254),
            ("LocationID", "N", 4),
            ("borough", "C", 254),
        ):
            writer.field(name, kind_of_field, size)
        for position, (object_id, location_id, zone, borough) in enumerate(squares):
            writer.poly([outline(position)]) if kind == shapefile.POLYGON else writer.point(LEFT, BOTTOM)
            writer.record(object_id, zone, location_id, borough)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}taxi_zones.prj", "PROJCS[]")
        for suffix, content in parts.items():
            if suffix != leave_out:
                archive.writestr(f"{folder}taxi_zones.{suffix}", content.getvalue())
    return path
