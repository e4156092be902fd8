"""The shapes of the taxi zones: correct numbers, shared borders, and clear errors for invalid files."""

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Sequence
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapefile
import shapely

from taxi_orchestration.tlc import zone_shapes
from taxi_orchestration.tlc.errors import BadFileError
from taxi_orchestration.tlc.zone_shapes import ZoneShape, read_zone_shapes, simplify_zone_shapes
from taxi_orchestration_tests.support.zone_shapes import BOTTOM, LEFT, SIDE, Square, square, write_zone_shapes

URL = "http://mirror.example/misc/taxi_zones.zip"


def read_shapes(path: Path) -> list[ZoneShape]:
    return read_zone_shapes(path, URL)


def expect_refusal(path: Path) -> str:
    with pytest.raises(BadFileError) as caught:
        read_shapes(path)
    assert f"from {URL}: " in str(caught.value)
    assert "Copy the TLC's file to mirror.example again" in str(caught.value)
    return str(caught.value)


def is_coverage(shapes: Sequence[ZoneShape]) -> bool:
    return bool(shapely.coverage_is_valid(np.array([zone.geometry for zone in shapes], dtype=object)))


@pytest.mark.parametrize("folder", ["", "taxi_zones/", "a/b/"])
def test_every_shape_gets_the_id_of_the_zone_table(tmp_path: Path, folder: str) -> None:
    shapes = read_shapes(write_zone_shapes(tmp_path / "taxi_zones.zip", folder=folder))
    assert [zone.zone_id for zone in shapes] == [1, 2, 56, 57, 103, 104, 105]
    assert (shapes[3].zone_name, shapes[3].borough) == ("Corona", "Queens")


def test_a_metadata_folder_of_macos_is_not_read_as_a_second_shapefile(tmp_path: Path) -> None:
    path = write_zone_shapes(tmp_path / "taxi_zones.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/taxi_zones/._taxi_zones.shp", b"shadow")
    assert len(read_shapes(path)) == 7


def test_simplified_neighbours_still_share_their_border(tmp_path: Path) -> None:
    shapes = read_shapes(write_zone_shapes(tmp_path / "taxi_zones.zip"))
    simple = simplify_zone_shapes(shapes)
    assert [zone.zone_id for zone in simple] == [zone.zone_id for zone in shapes]
    assert is_coverage(simple)
    assert all(len(zone.polygons[0][0]) < 20 for zone in simple)
    assert all(isinstance(value, int) for zone in simple for value in zone.polygons[0][0][0])
    shared = simple[0].geometry.intersection(simple[1].geometry)
    assert shared.length == pytest.approx(SIDE, rel=0.01)


def test_small_gaps_between_borders_are_closed(tmp_path: Path) -> None:
    def square_with_gap(position: int) -> list[tuple[float, float]]:
        return [(x, y + 0.2 * position) for x, y in square(position)]

    shapes = read_shapes(write_zone_shapes(tmp_path / "taxi_zones.zip", outline=square_with_gap))
    assert is_coverage(simplify_zone_shapes(shapes))


def test_a_very_small_zone_is_kept(tmp_path: Path) -> None:
    def small_square(position: int) -> list[tuple[float, float]]:
        x, y = LEFT + 1000 * position, BOTTOM
        return [(x, y), (x, y + 30), (x + 30, y + 30), (x + 30, y), (x, y)]

    simple = simplify_zone_shapes(read_shapes(write_zone_shapes(tmp_path / "taxi_zones.zip", outline=small_square)))
    assert all(zone.geometry.area > 0 for zone in simple)


def test_a_file_that_is_not_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taxi_zones.zip"
    path.write_text("<html>moved</html>")
    assert "not a zip file" in expect_refusal(path)


def test_a_zip_with_an_invalid_directory_offset_is_refused(tmp_path: Path) -> None:
    path = write_zone_shapes(tmp_path / "taxi_zones.zip")
    content = bytearray(path.read_bytes())
    content[-6:-2] = (len(content) * 2).to_bytes(4, "little")
    path.write_bytes(content)
    assert "not a readable shapefile" in expect_refusal(path)


@pytest.mark.parametrize("suffix", ["shp", "dbf", "shx"])
def test_a_zip_without_a_part_of_the_shapefile_is_refused(tmp_path: Path, suffix: str) -> None:
    assert f"0 .{suffix} files" in expect_refusal(write_zone_shapes(tmp_path / "taxi_zones.zip", leave_out=suffix))


def test_a_zip_that_decompresses_to_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taxi_zones.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for suffix in ("shp", "dbf", "shx"):
            archive.writestr(f"taxi_zones.{suffix}", b"\0" * (zone_shapes.MAX_UNPACKED_BYTES // 2))
    assert path.stat().st_size < 2**20
    assert "unpacks to more than 64 MB" in expect_refusal(path)


@pytest.mark.parametrize(
    ("squares", "found"),
    [
        ([], "0 shapes"),
        ([(1, 7, "A", "Queens"), (2, 7, "B", "Queens")], "LocationID 7 is the number of different zones"),
        (
            [(1, 2, "A", "Queens"), (2, 5, "B", "Queens"), (3, 5, "B", "Queens")],
            "more than one shape is that of zone 2",
        ),
    ],
)
def test_invalid_zone_numbers_are_refused(tmp_path: Path, squares: list[Square], found: str) -> None:
    assert found in expect_refusal(write_zone_shapes(tmp_path / "taxi_zones.zip", squares))


def test_shapes_in_degrees_are_refused(tmp_path: Path) -> None:
    def degrees(position: int) -> list[tuple[float, float]]:
        return [(-73.9, 40.7), (-73.9, 40.8), (-73.8, 40.8), (-73.8, 40.7), (-73.9, 40.7)]

    assert "not New York in feet" in expect_refusal(write_zone_shapes(tmp_path / "taxi_zones.zip", outline=degrees))


def test_an_outline_that_crosses_itself_is_refused(tmp_path: Path) -> None:
    def bow_tie(position: int) -> list[tuple[float, float]]:
        points = [(0, 0), (900, 900), (900, 0), (0, 900), (0, 0)]
        return [(LEFT + x, BOTTOM + y) for x, y in points]

    assert "broken: Self-intersection" in expect_refusal(
        write_zone_shapes(tmp_path / "taxi_zones.zip", outline=bow_tie)
    )


def test_points_are_refused(tmp_path: Path) -> None:
    assert "is a Point, not a polygon" in expect_refusal(
        write_zone_shapes(tmp_path / "taxi_zones.zip", kind=shapefile.POINT)
    )


def test_a_shapefile_of_something_else_is_refused_with_the_missing_fields(tmp_path: Path) -> None:
    parts: dict[str, Any] = {suffix: io.BytesIO() for suffix in ("shp", "shx", "dbf")}
    with shapefile.Writer(**parts) as writer:
        writer.field("zone", "C")
        writer.poly([square(0)])
        writer.record("A")
    with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
        for suffix, content in parts.items():
            archive.writestr(f"x.{suffix}", content.getvalue())
    assert "lacks OBJECTID, LocationID, borough" in expect_refusal(tmp_path / "taxi_zones.zip")


@pytest.mark.parametrize("method", [12, 14])
def test_a_zip_with_an_unusual_compression_is_refused(tmp_path: Path, method: int) -> None:
    content = bytearray(write_zone_shapes(tmp_path / "whole.zip").read_bytes())
    entry = content.find(b"PK\x01\x02")
    while entry >= 0:
        content[entry + 10 : entry + 12] = method.to_bytes(2, "little")
        entry = content.find(b"PK\x01\x02", entry + 1)
    (tmp_path / "taxi_zones.zip").write_bytes(content)
    assert f"compressed by method {method}" in expect_refusal(tmp_path / "taxi_zones.zip")


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_are_read_or_raise_bad_file_error_and_nothing_else(tmp_path: Path, seed: int) -> None:
    """Change bytes inside the zip and write a matching checksum, so that the shapefile reader gets the damage."""
    rng = random.Random(seed)
    with zipfile.ZipFile(write_zone_shapes(tmp_path / "whole.zip")) as archive:
        parts = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "taxi_zones.zip", "w") as archive:
        for name, content in parts.items():
            for _ in range(seed % 5 + 1):
                content[rng.randrange(min(len(content), 400))] = rng.randrange(256)
            archive.writestr(name, bytes(content[: rng.randrange(len(content))] if seed % 4 == 0 else content))
    with contextlib.suppress(BadFileError):
        read_shapes(tmp_path / "taxi_zones.zip")


@pytest.mark.real_data
def test_the_published_shapes_fit_the_published_zone_table(real_months: Path) -> None:
    shapes = read_shapes(real_months / "misc" / "taxi_zones.zip")
    with (real_months / "misc" / "taxi_zone_lookup.csv").open(newline="") as file:
        table = {int(row["LocationID"]): (row["Zone"], row["Borough"]) for row in DictReader(file)}
    assert [zone.zone_id for zone in shapes] == list(range(1, 264))
    assert {zone.zone_id: (zone.zone_name, zone.borough) for zone in shapes}.items() <= table.items()


@pytest.mark.real_data
def test_the_simplified_published_shapes_are_small_and_still_a_map(real_months: Path) -> None:
    shapes = read_shapes(real_months / "misc" / "taxi_zones.zip")
    simple = simplify_zone_shapes(shapes)
    assert len(json.dumps([zone.polygons for zone in simple], separators=(",", ":"))) < 150_000
    assert is_coverage(simple)
    assert not is_coverage(shapes)
    for before, after in zip(shapes, simple, strict=True):
        assert 0.75 < after.geometry.area / before.geometry.area < 1.05, after
