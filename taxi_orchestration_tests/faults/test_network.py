"""Faults of the download host: the month stays unchanged, and the error names the month and the next step.

unit/tlc/test_client.py tests the client in detail; the tests here check the content of the database.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler

import pytest

from taxi_orchestration.loading import Loader
from taxi_orchestration.settings import PostgresTarget, Settings
from taxi_orchestration.tlc.client import TlcClient
from taxi_orchestration.tlc.errors import (
    BadFileError,
    NotPublishedError,
    PermanentTlcError,
    TlcError,
    TransientTlcError,
)
from taxi_orchestration.warehouse.load_log import loaded_files
from taxi_orchestration.warehouse.warehouse import Warehouse
from taxi_orchestration_tests.support.http_host import Answer, drip, ok, redirect, reset_after, silent, stalled, status
from taxi_orchestration_tests.support.months import (
    FEBRUARY,
    JANUARY,
    MARCH,
    MonthContent,
    content_of_file,
    contents_of_schema,
)
from taxi_orchestration_tests.support.tlc_host import ZONES, TlcHost, month_path
from taxi_orchestration_tests.support.warehouses import fetch_rows

APRIL = date(2024, 4, 1)
PATH = month_path(JANUARY)
XML = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'


@pytest.fixture
def quick_loader(loader: Loader, tlc: TlcHost) -> Iterator[Loader]:
    """The loader with short timeouts and two attempts."""
    with TlcClient(
        tlc.url, attempts=2, first_pause=0.01, connect_timeout=1, read_timeout=0.3, total_timeout=1.5
    ) as client:
        yield replace(loader, tlc=client)


@pytest.fixture
def before(quick_loader: Loader, tlc: TlcHost) -> MonthContent:
    """The content of January, which is loaded."""
    data = tlc.publish(JANUARY).path.read_bytes()
    quick_loader.load_month(JANUARY)
    return content_of_file(data)


@pytest.fixture
def reissued(before: MonthContent, tlc: TlcHost) -> bytes:
    """The re-issued file of January, which the faulty host sends next."""
    return tlc.publish(JANUARY, seed=1).path.read_bytes()


def close(handler: BaseHTTPRequestHandler) -> None:
    """Close the connection without a response."""
    handler.close_connection = True


Fault = tuple[Callable[[bytes], Answer], type[TlcError], str]
# The answer to the request for the re-issued file, the error, and words of its message after the month.
FAULTS: dict[str, Fault] = {
    "reset during the body": (lambda data: reset_after(data, len(data) // 2), TransientTlcError, ""),
    "closes the connection": (lambda data: close, TransientTlcError, ""),
    "never answers": (lambda data: silent(1), TransientTlcError, ""),
    "stalls during the body": (lambda data: stalled(data, len(data) // 2, 1), TransientTlcError, ""),
    "one byte at a time": (lambda data: drip(data, 0.05), TransientTlcError, ""),
    "429 at every attempt": (lambda data: status(429, Retry_After="0"), TransientTlcError, "429"),
    "500 at every attempt": (lambda data: status(500), TransientTlcError, "500.*after 2 of 2 attempts"),
    "503 at every attempt": (lambda data: status(503), TransientTlcError, "503"),
    "403": (lambda data: status(403, XML), NotPublishedError, "403.*about two months late"),
    "404": (lambda data: status(404), NotPublishedError, "404"),
    "401": (lambda data: status(401), PermanentTlcError, "401"),
    "410": (lambda data: status(410), PermanentTlcError, "410"),
    "200 with HTML": (lambda data: ok(b"<!doctype html><title>Log in</title>"), BadFileError, "html"),
    "200 with XML": (lambda data: ok(XML), BadFileError, "xml"),
    "200 with an empty body": (lambda data: ok(b""), BadFileError, ""),
    "Content-Length too long": (lambda data: ok(data, Content_Length=str(len(data) + 100)), TransientTlcError, ""),
    "Content-Length too short": (lambda data: ok(data, Content_Length=str(len(data) - 100)), BadFileError, ""),
    "truncated": (lambda data: ok(data[: len(data) // 2]), BadFileError, "was truncated"),
    "compressed without a request": (lambda data: ok(data, Content_Encoding="gzip"), BadFileError, "gzip"),
    "a redirect loop": (lambda data: redirect(PATH), PermanentTlcError, "redirects in a row"),
    "a redirect to another scheme": (lambda data: redirect("file:///etc/passwd"), PermanentTlcError, "not followed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_host_that_fails_leaves_the_month_as_it_was(
    fault: str,
    quick_loader: Loader,
    before: MonthContent,
    reissued: bytes,
    tlc: TlcHost,
    target: PostgresTarget,
    settings: Settings,
) -> None:
    answer, error, words = FAULTS[fault]
    recorded = loaded_files(quick_loader.warehouse)
    tlc.http.on(PATH, answer(reissued))
    with pytest.raises(error, match=f"(?s)2024-01.*{words}") as caught:
        quick_loader.load_month(JANUARY)
    assert tlc.url in str(caught.value)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}
    assert loaded_files(quick_loader.warehouse) == recorded
    assert not list(quick_loader.scratch.iterdir())


def test_a_host_that_refuses_connections_leaves_the_month_as_it_was(
    quick_loader: Loader, before: MonthContent, target: PostgresTarget, settings: Settings
) -> None:
    with (
        TlcClient("http://127.0.0.1:9", attempts=2, first_pause=0.01) as client,
        pytest.raises(TransientTlcError, match=r"2024-01 \(http://127.0.0.1:9/.*cannot be reached"),
    ):
        replace(quick_loader, tlc=client).load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_host_that_answers_once_with_an_error_only_delays_the_month(
    code: int,
    quick_loader: Loader,
    before: MonthContent,
    reissued: bytes,
    tlc: TlcHost,
    target: PostgresTarget,
    settings: Settings,
) -> None:
    tlc.http.requests.clear()
    tlc.http.on(PATH, status(code), ok(reissued))
    quick_loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(reissued)}


def test_a_file_that_changes_between_two_requests_is_recorded_as_it_was_loaded(
    quick_loader: Loader, before: MonthContent, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    before_reissue = quick_loader.tlc.fetch_publication(JANUARY)
    data = tlc.publish(JANUARY, seed=1).path.read_bytes()
    quick_loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: content_of_file(data)}
    recorded = loaded_files(Warehouse(target, settings.schema_name))[JANUARY]
    assert recorded.etag != before_reissue.etag
    assert recorded.etag == quick_loader.tlc.fetch_publication(JANUARY).etag


def test_a_month_that_was_withdrawn_is_kept(
    quick_loader: Loader, before: MonthContent, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    tlc.withdraw(JANUARY)
    with pytest.raises(PermanentTlcError, match="two months late"):
        quick_loader.load_month(JANUARY)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before}


def test_broken_months_do_not_stop_the_others(
    quick_loader: Loader, before: MonthContent, tlc: TlcHost, target: PostgresTarget, settings: Settings
) -> None:
    data = tlc.publish(FEBRUARY, seed=2).path.read_bytes()
    tlc.http.on(PATH, status(500))
    tlc.publish_bytes(MARCH, b"<html>")
    outcomes = dict(quick_loader.load_months([JANUARY, FEBRUARY, MARCH, APRIL], at_once=3))
    assert isinstance(outcomes[JANUARY], TransientTlcError)
    assert isinstance(outcomes[MARCH], BadFileError)
    assert isinstance(outcomes[APRIL], NotPublishedError)
    assert contents_of_schema(target, settings.schema_name) == {JANUARY: before, FEBRUARY: content_of_file(data)}


def test_a_response_that_is_not_a_zone_table_leaves_the_zones_as_they_were(quick_loader: Loader, tlc: TlcHost) -> None:
    def zones() -> object:
        warehouse = quick_loader.warehouse
        return fetch_rows(warehouse.target, warehouse.schema, "select * from raw_zones order by 1")

    assert quick_loader.load_zones() == 265
    before = zones()
    header = b'"LocationID","Borough","Zone","service_zone"\r\n'
    for body in (
        b"",
        b"<html></html>",
        b'"LocationID"\r\n',
        b'"LocationID","Borough","Zone"\r\n1,"a","b"\r\n',
        header,
        header + b"x",
        header + b'one,"a","b","c"\r\n',
        header + b'1,"a","b"\r\n',
        header + b'1,"a","b","\xff"\r\n',
        header + b"1,EWR," + b"x" * 200_000 + b",EWR\r\n",
    ):
        tlc.http.on(ZONES, ok(body))
        with pytest.raises(BadFileError, match="zone"):
            quick_loader.load_zones()
        assert zones() == before
