"""The shapes of the taxi zones: the TLC's `taxi_zones.zip`, checked, numbered and simplified.

Coordinates stay in the TLC's unit, feet of the New York State Plane (EPSG 2263): a map of one city needs no other
projection. Files and geometry belong here; drawing does not.
"""

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapefile
import shapely
from shapely.geometry import shape

from taxi_orchestration.tlc.errors import BadFileError, advise_new_copy

# The published files are 1.7 MB unpacked; a zip of a few kB can unpack to gigabytes.
MAX_UNPACKED_BYTES = 64 * 2**20
# New York with Newark and a margin, in feet: coordinates in degrees or metres lie outside.
BOUNDS = (850_000, 80_000, 1_120_000, 310_000)
FIELDS = {"OBJECTID": int, "LocationID": int, "zone": str, "borough": str}
# A pixel of a map 1,000 pixels wide is 150 feet.
TOLERANCE_FEET = 250.0
GAP_FEET, SNAP_FEET = 10.0, 1.0

# The exceptions of pyshp on bytes that are no shapefile.
_NOT_A_SHAPEFILE = (
    shapefile.ShapefileException,
    shapely.errors.ShapelyError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class ZoneShape:
    """The outline of a taxi zone, in feet of EPSG 2263, with the zone's number in the TLC's zone table."""

    zone_id: int
    zone_name: str
    borough: str
    geometry: shapely.MultiPolygon

    @property
    def polygons(self) -> list[list[list[list[float]]]]:
        """Return the coordinates of a GeoJSON MultiPolygon; whole numbers are integers, for short JSON."""
        return [
            [
                [[int(value) if value == int(value) else value for value in point] for point in ring.coords]
                for ring in (polygon.exterior, *polygon.interiors)
            ]
            for polygon in self.geometry.geoms
        ]


def read_zone_shapes(path: Path, url: str) -> list[ZoneShape]:
    """Read `taxi_zones.zip`, which was downloaded from `url`, ordered by zone number.

    Raises BadFileError if the file is not the TLC's.
    """
    try:
        parts = _unpack(path, url)
        with shapefile.Reader(**{suffix: io.BytesIO(content) for suffix, content in parts.items()}) as reader:
            records = [record.as_dict() for record in reader.records()]
            outlines = [shape(outline.__geo_interface__) for outline in reader.shapes()]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _refusal(url, f"it is not a zip file that can be unpacked ({error})") from error
    except _NOT_A_SHAPEFILE as error:
        raise _refusal(url, f"its content is not a readable shapefile ({error})") from error
    if not records or len(records) != len(outlines):
        raise _refusal(url, f"it has {len(outlines)} shapes and {len(records)} records")
    for record in records:
        if wrong := [name for name, kind in FIELDS.items() if not isinstance(record.get(name), kind)]:
            raise _refusal(url, f"the record {record} lacks {', '.join(wrong)}")
    zone_ids = _number_zones(url, records)
    shapes = [
        ZoneShape(zone_id, record["zone"].strip(), record["borough"].strip(), _check_outline(url, zone_id, outline))
        for zone_id, record, outline in zip(zone_ids, records, outlines, strict=True)
    ]
    return sorted(shapes, key=lambda zone: zone.zone_id)


def simplify_zone_shapes(shapes: Sequence[ZoneShape]) -> list[ZoneShape]:
    """Remove detail below TOLERANCE_FEET and round to whole feet; borders that two zones share stay shared.

    Most published borders overlap or leave gaps of inches, so adjacent borders are made identical first.
    """
    outlines = np.array([zone.geometry for zone in shapes], dtype=object)
    cleaned = shapely.coverage_clean(outlines, gap_width=GAP_FEET, snapping_distance=SNAP_FEET)
    outlines = shapely.coverage_simplify(cleaned, TOLERANCE_FEET)
    outlines = shapely.transform(outlines, np.rint)
    return [
        replace(zone, geometry=_drop_specks(outline, TOLERANCE_FEET**2))
        for zone, outline in zip(shapes, outlines, strict=True)
    ]


def _refusal(url: str, found: str) -> BadFileError:
    return BadFileError(f"Reading the shapes of the taxi zones from {url}: {found}. {advise_new_copy(url)}")


def _unpack(path: Path, url: str) -> dict[str, bytes]:
    """Return the bytes of the one .shp, .dbf and .shx of a zip, in a folder or not."""
    # Read from memory: in a file, a zip directory that points before its start raises the OSError of a failing disk.
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        # macOS adds a folder with a metadata file for every file.
        members = [member for member in archive.infolist() if not member.filename.startswith("__MACOSX")]
        found: dict[str, bytes] = {}
        for suffix in ("shp", "dbf", "shx"):
            matching = [member for member in members if PurePosixPath(member.filename).suffix.lower() == f".{suffix}"]
            if len(matching) != 1:
                raise _refusal(url, f"it has {len(matching)} .{suffix} files instead of one")
            if matching[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refusal(url, f"its .{suffix} file is compressed by method {matching[0].compress_type}")
            with archive.open(matching[0]) as file:
                found[suffix] = file.read(MAX_UNPACKED_BYTES + 1)
            if sum(map(len, found.values())) > MAX_UNPACKED_BYTES:
                raise _refusal(url, f"it unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MB")
    declared = 2 * int.from_bytes(found["shp"][24:28], "big")
    if declared != len(found["shp"]):
        raise _refusal(url, f"its .shp file has {len(found['shp'])} bytes, but its header declares {declared}")
    return found


def _number_zones(url: str, records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the zone number of every shape.

    The zone table has 265 zones, of which 56 and 57 share one name, and 103 to 105 another. The shapes of those five
    zones have LocationID 56 twice and 103 three times, and OBJECTID 56, 57, 103, 104, 105; in all other shapes both are
    equal. So a repeated LocationID is replaced by the OBJECTID, if all shapes of that LocationID have one name.
    """
    count = Counter(record["LocationID"] for record in records)
    names: dict[int, set[tuple[str, str]]] = {}
    for record in records:
        names.setdefault(record["LocationID"], set()).add((record["zone"], record["borough"]))
    if mixed := [location for location in count if len(names[location]) > 1]:
        raise _refusal(url, f"LocationID {mixed[0]} is the number of different zones: {sorted(names[mixed[0]])}")
    zone_ids = [record["OBJECTID"] if count[record["LocationID"]] > 1 else record["LocationID"] for record in records]
    if doubled := [zone_id for zone_id, times in Counter(zone_ids).items() if times > 1]:
        raise _refusal(url, f"more than one shape is that of zone {doubled[0]}")
    return zone_ids


def _check_outline(url: str, zone_id: int, outline: shapely.Geometry) -> shapely.MultiPolygon:
    if outline.geom_type not in ("Polygon", "MultiPolygon"):
        raise _refusal(url, f"the shape of zone {zone_id} is a {outline.geom_type}, not a polygon")
    if not outline.is_valid:
        raise _refusal(url, f"the shape of zone {zone_id} is broken: {shapely.is_valid_reason(outline)}")
    left, bottom, right, top = outline.bounds
    if not (BOUNDS[0] < left and BOUNDS[1] < bottom and right < BOUNDS[2] and top < BOUNDS[3]):
        found = f"({left:.6g}, {bottom:.6g}) to ({right:.6g}, {top:.6g})"
        raise _refusal(url, f"zone {zone_id} lies at {found}, which is not New York in feet of EPSG 2263")
    return shapely.MultiPolygon(shapely.get_parts(outline).tolist())


def _drop_specks(outline: shapely.Geometry, area: float) -> shapely.MultiPolygon:
    """Remove islets and ponds smaller than `area`, but never the largest part of a zone."""
    parts = sorted(shapely.get_parts(outline), key=shapely.area, reverse=True)
    large = [part for position, part in enumerate(parts) if position == 0 or part.area >= area]
    return shapely.MultiPolygon(
        [
            shapely.Polygon(part.exterior, [hole for hole in part.interiors if shapely.Polygon(hole).area >= area])
            for part in large
        ]
    )
