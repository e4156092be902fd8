"""A fake of the TLC's download host, with synthetic months that a test publishes, re-issues and withdraws."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from taxi_orchestration.tlc.dataset import DATASET, DataSet
from taxi_orchestration_tests.support.http_host import Host, running_host, status
from taxi_orchestration_tests.support.synthetic import SyntheticMonth, write_month, write_zones
from taxi_orchestration_tests.support.zone_shapes import write_zone_shapes

ZONES = "/misc/taxi_zone_lookup.csv"
ZONE_SHAPES = "/misc/taxi_zones.zip"


def month_path(month: date, dataset: DataSet = DATASET) -> str:
    """Return the path of a month's file."""
    return f"/trip-data/{dataset.file_name(month)}"


class TlcHost:
    """A host of synthetic months under the TLC's paths, with ETag, Last-Modified and conditional GET."""

    def __init__(self, http: Host, directory: Path, dataset: DataSet = DATASET) -> None:
        self.http = http
        self.url = http.url
        self._directory = directory
        self._dataset = dataset
        self._issued = 0.0

    def publish(self, month: date, rows: int = 200, *, seed: int = 0, resaved: bool = False) -> SyntheticMonth:
        """Publish or re-issue a month, and return its totals.

        Another seed gives other rows; `resaved` gives the same rows in other bytes.
        """
        file = self._directory / f"{month:%Y-%m}.parquet"
        content = write_month(file, month, rows, self._dataset, seed=seed, resaved=resaved)
        self.publish_bytes(month, file.read_bytes())
        return content

    def publish_bytes(self, month: date, data: bytes) -> None:
        """Publish any bytes under a month's address."""
        self._serve(month_path(month, self._dataset), data)

    def publish_zones(self) -> None:
        """Publish a zone table."""
        file = self._directory / "zones.csv"
        write_zones(file)
        self._serve(ZONES, file.read_bytes())

    def publish_zone_shapes(self) -> None:
        """Publish the shapes of a few zones."""
        file = self._directory / "taxi_zones.zip"
        write_zone_shapes(file)
        self._serve(ZONE_SHAPES, file.read_bytes())

    def withdraw(self, month: date) -> None:
        """Answer 403 for a month from now on, as for a month that was never published."""
        self.http.answers.pop(month_path(month, self._dataset), None)

    def requests_for(self, month: date, method: str = "GET") -> int:
        """Return the number of requests for a month by one method."""
        return sum(1 for command, _ in self.http.requests[month_path(month, self._dataset)] if command == method)

    def _serve(self, path: str, data: bytes) -> None:
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        # One second later for every file, so that a re-issue has a newer Last-Modified.
        self._issued += 1
        headers = {"ETag": etag, "Last_Modified": formatdate(1_700_000_000 + self._issued, usegmt=True)}

        def answer(handler: BaseHTTPRequestHandler) -> None:
            unchanged = handler.headers.get("If-None-Match") == etag
            # A HEAD needs the data too: its size is the Content-Length.
            status(304 if unchanged else 200, b"" if unchanged else data, **headers)(handler)

        self.http.on(path, answer)


@contextmanager
def running_tlc_host(directory: Path) -> Iterator[TlcHost]:
    """Run a host with the zones, their shapes and no month on a free port of loopback for the duration of the block."""
    with running_host() as http:
        host = TlcHost(http, directory)
        host.publish_zones()
        host.publish_zone_shapes()
        yield host
