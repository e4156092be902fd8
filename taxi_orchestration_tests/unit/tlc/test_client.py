"""The client of the TLC's download host: every kind of response, over real HTTP on loopback."""

import hashlib
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from taxi_orchestration.loading import read_zones
from taxi_orchestration.settings import check_base_url
from taxi_orchestration.tlc import errors
from taxi_orchestration.tlc.client import Publication, TlcClient, is_same_version, month_url, zones_url
from taxi_orchestration.tlc.errors import (
    BadFileError,
    NotPublishedError,
    PermanentTlcError,
    TlcError,
    TransientTlcError,
    UnreachableTlcError,
)
from taxi_orchestration_tests.support.http_host import (
    Answer,
    Host,
    drip,
    ok,
    redirect,
    reset_after,
    running_host,
    silent,
    stalled,
    status,
)
from taxi_orchestration_tests.support.tlc_host import month_path

MONTH = date(2024, 1, 1)
PATH = month_path(MONTH)
ZONES_PATH = "/misc/taxi_zone_lookup.csv"
BODY = b"PAR1" + bytes(range(256)) * 4000 + b"PAR1"
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'


@pytest.fixture
def host() -> Iterator[Host]:
    with running_host() as running:
        yield running


def make_client(host: Host, **options: Any) -> TlcClient:
    """Return a client with short pauses and timeouts."""
    waits: dict[str, Any] = {"first_pause": 0.01, "max_pause": 0.02, "read_timeout": 5, "attempts": 3}
    return TlcClient(host.url, **(waits | options))


def expect_failure(kind: type[TlcError], host: Host, directory: Path, **options: Any) -> str:
    """Return the message of a failed download. Check that it names month and URL, and that no file is left."""
    with make_client(host, **options) as client, pytest.raises(TlcError) as raised:
        client.download(MONTH, directory)
    assert raised.type is kind
    message = str(raised.value)
    assert "2024-01" in message
    assert host.url + PATH in message
    assert list(directory.iterdir()) == []
    return message


# Successful downloads


def test_a_month_is_downloaded_byte_for_byte_with_the_metadata_of_the_host(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY, ETag='"v1"', Last_Modified="Wed, 06 Mar 2024 12:00:00 GMT"))
    with make_client(host) as client, client.download(MONTH, tmp_path) as download:
        assert download.path.read_bytes() == BODY
        assert download.url == host.url + PATH
        assert (download.etag, download.bytes) == ('"v1"', len(BODY))
        assert download.last_modified == datetime(2024, 3, 6, 12, tzinfo=UTC)
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()
    assert list(tmp_path.iterdir()) == []


def test_progress_grows_to_the_size_of_the_file(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY))
    seen: list[tuple[int, int | None]] = []
    with make_client(host) as client, client.download(MONTH, tmp_path, lambda *step: seen.append(step)):
        assert seen == sorted(seen)
        assert seen[-1] == (len(BODY), len(BODY))


def test_the_request_names_the_project_and_accepts_no_compression(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY))
    make_client(host).download(MONTH, tmp_path)
    _, headers = host.requests[PATH][0]
    assert headers["User-Agent"].startswith("taxi-orchestration")
    assert headers["Accept-Encoding"] == "identity"


def test_the_zone_table_is_downloaded(host: Host, tmp_path: Path) -> None:
    host.on(ZONES_PATH, ok(b'"LocationID","Borough","Zone","service_zone"\r\n1,"EWR","Newark Airport","EWR"\r\n'))
    with make_client(host).download_zones(tmp_path) as download:
        assert download.path.read_text().startswith('"LocationID"')


def test_a_response_that_is_not_a_zone_table_is_refused(host: Host, tmp_path: Path) -> None:
    host.on(ZONES_PATH, ok(b"<html>hello</html>"))
    with (
        make_client(host).download_zones(tmp_path) as download,
        pytest.raises(BadFileError, match=r"zone table .*<html>.*check TLC_BASE_URL"),
    ):
        read_zones(download)
    assert list(tmp_path.iterdir()) == []


def test_a_zone_table_without_quotes_and_with_a_byte_order_mark_is_read(host: Host, tmp_path: Path) -> None:
    host.on(ZONES_PATH, ok(b"\xef\xbb\xbfLocationID,Borough,Zone,service_zone\r\n1,EWR,Newark Airport,EWR\r\n"))
    with make_client(host).download_zones(tmp_path) as download:
        assert read_zones(download) == [(1, "EWR", "Newark Airport", "EWR")]


@pytest.mark.parametrize(("published", "downloaded"), [(None, len(BODY)), (len(BODY), len(BODY))])
def test_a_file_is_the_published_one_also_if_the_host_sends_no_length(published: int, downloaded: int) -> None:
    moment = datetime(2024, 3, 1, tzinfo=UTC)
    publication = Publication("http://x", True, None, moment, published)
    assert is_same_version(publication, None, moment, downloaded)
    assert not is_same_version(publication, None, moment + timedelta(seconds=1), downloaded)
    assert not is_same_version(Publication("http://x", True, None, moment, downloaded + 1), None, moment, downloaded)


def test_a_body_without_a_content_length_is_read_to_its_end(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY, Content_Length=""))
    with make_client(host).download(MONTH, tmp_path) as download:
        assert download.bytes == len(BODY)


def test_a_redirect_is_followed_and_the_month_keeps_its_own_url(host: Host, tmp_path: Path) -> None:
    host.on(PATH, redirect("/elsewhere"))
    host.on("/elsewhere", ok(BODY))
    with make_client(host).download(MONTH, tmp_path) as download:
        assert download.url == host.url + PATH


def test_several_months_can_be_downloaded_at_once_by_one_client(host: Host, tmp_path: Path) -> None:
    months = [date(2024, month, 1) for month in range(1, 9)]
    for month in months:
        host.on(month_path(month), ok(BODY + f"{month}".encode() + b"PAR1"))
    with make_client(host) as client, ThreadPoolExecutor(8) as pool:
        for month, download in zip(months, pool.map(lambda m: client.download(m, tmp_path), months), strict=True):
            assert f"{month}".encode() in download.path.read_bytes()


# Errors that are retried


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_request_that_fails_temporarily_is_retried(host: Host, tmp_path: Path, code: int) -> None:
    host.on(PATH, status(code), status(code), ok(BODY))
    with make_client(host).download(MONTH, tmp_path) as download:
        assert download.path.read_bytes() == BODY
    assert host.count(PATH) == 3


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_request_that_fails_at_every_attempt_is_a_transient_failure(host: Host, tmp_path: Path, code: int) -> None:
    host.on(PATH, status(code))
    message = expect_failure(TransientTlcError, host, tmp_path)
    assert f"answered {code}" in message
    assert "Gave up after 3 of 3 attempts" in message
    assert host.count(PATH) == 3


def test_a_retry_after_header_in_seconds_is_respected(host: Host, tmp_path: Path) -> None:
    host.on(PATH, status(503, Retry_After="1"), ok(BODY))
    make_client(host).download(MONTH, tmp_path)
    assert 1.0 <= host.times[1] - host.times[0] < 2.5


def test_a_retry_after_header_with_a_date_is_respected(host: Host, tmp_path: Path) -> None:
    until = datetime.now(UTC) + timedelta(seconds=2)
    host.on(PATH, status(429, Retry_After=format_datetime(until, usegmt=True)), ok(BODY))
    make_client(host).download(MONTH, tmp_path)
    assert 0.5 < host.times[1] - host.times[0] < 3.5


@pytest.mark.parametrize("retry_after", ["soon", "-5", "Wed, 06 Mar 2019 12:00:00 GMT", "٣"])
def test_an_invalid_retry_after_header_delays_nothing(host: Host, tmp_path: Path, retry_after: str) -> None:
    host.on(PATH, status(503, Retry_After=retry_after.encode("utf-8").decode("latin-1")), ok(BODY))
    make_client(host).download(MONTH, tmp_path)
    assert host.times[1] - host.times[0] < 0.5


def test_a_retry_after_header_beyond_the_time_limit_ends_the_attempts_at_once(host: Host, tmp_path: Path) -> None:
    host.on(PATH, status(503, Retry_After="86400"))
    started = time.monotonic()
    message = expect_failure(TransientTlcError, host, tmp_path, total_timeout=5)
    assert "Gave up after 1 of 3 attempts" in message
    assert time.monotonic() - started < 1


def test_a_host_that_refuses_connections_is_a_transient_failure(tmp_path: Path) -> None:
    with running_host() as stopped_host:
        pass
    message = expect_failure(UnreachableTlcError, stopped_host, tmp_path)
    assert "the host cannot be reached: Connection refused. Gave up after 2 of 2 attempts. Check the network" in message


def test_an_unknown_host_is_reported_soon_and_without_names_of_python_objects(tmp_path: Path) -> None:
    started = time.monotonic()
    retries: list[str] = []
    with (
        TlcClient("https://no-such-host.invalid", on_retry=retries.append) as client,
        pytest.raises(UnreachableTlcError) as raised,
    ):
        client.download(MONTH, tmp_path)
    message = str(raised.value)
    assert "the name no-such-host.invalid cannot be resolved" in message
    assert message.endswith("Check the network and TLC_BASE_URL, then try again.")
    assert not set(message) & set("<>[]'")
    assert "Pool" not in message
    assert len(retries) == 1
    assert "Attempt 2 of 2 follows in" in retries[0]
    assert time.monotonic() - started < 10


def test_an_unreachable_proxy_is_named(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    message = expect_failure(UnreachableTlcError, host, tmp_path)
    assert "the proxy of HTTPS_PROXY or HTTP_PROXY cannot be used: Connection refused" in message


def test_a_host_that_becomes_unreachable_is_retried_as_often_as_a_busy_one(tmp_path: Path) -> None:
    retries: list[str] = []
    with running_host() as host:
        client = make_client(host, on_retry=retries.append)
        client.fetch_publication(MONTH)
    with client, pytest.raises(UnreachableTlcError, match="after 3 of 3 attempts"):
        client.download(MONTH, tmp_path)
    assert len(retries) == 2


def test_a_reset_in_the_body_starts_the_download_again_from_its_first_byte(host: Host, tmp_path: Path) -> None:
    host.on(PATH, reset_after(b"PAR1" + b"old" * 100_000, 200_000), ok(BODY))
    with make_client(host).download(MONTH, tmp_path) as download:
        assert download.path.read_bytes() == BODY
        assert download.sha256 == hashlib.sha256(BODY).hexdigest()


def test_a_body_that_is_always_cut_off_is_a_transient_failure(host: Host, tmp_path: Path) -> None:
    host.on(PATH, reset_after(BODY, 200_000))
    assert f"of {len(BODY):,} bytes" in expect_failure(TransientTlcError, host, tmp_path)
    assert host.count(PATH) == 3


def test_a_body_shorter_than_its_content_length_is_a_transient_failure(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY, Content_Length=str(len(BODY) + 10)))
    assert f"after {len(BODY):,} of {len(BODY) + 10:,} bytes" in expect_failure(TransientTlcError, host, tmp_path)


def test_a_host_that_never_answers_ends_with_the_read_timeout(host: Host, tmp_path: Path) -> None:
    host.on(PATH, silent(3))
    assert "no answer within" in expect_failure(TransientTlcError, host, tmp_path, read_timeout=0.2, attempts=2)


def test_a_body_that_stalls_ends_with_the_read_timeout(host: Host, tmp_path: Path) -> None:
    host.on(PATH, stalled(BODY, 1000, 3))
    message = expect_failure(TransientTlcError, host, tmp_path, read_timeout=0.2, attempts=2)
    assert "nothing arrived for 0.2 s after 1,000 of" in message


def test_a_slow_body_that_never_stalls_ends_with_the_total_timeout(host: Host, tmp_path: Path) -> None:
    host.on(PATH, drip(BODY, 0.02))
    started = time.monotonic()
    message = expect_failure(TransientTlcError, host, tmp_path, total_timeout=0.5)
    assert "not complete after" in message
    assert time.monotonic() - started < 1.5


def test_a_file_that_changes_before_its_download_is_recorded_as_downloaded(host: Host, tmp_path: Path) -> None:
    changed = BODY + b"more" + b"PAR1"
    host.on(PATH, ok(BODY, ETag='"v1"'), ok(changed, ETag='"v2"'))
    client = make_client(host)
    assert client.fetch_publication(MONTH).etag == '"v1"'
    with client.download(MONTH, tmp_path) as download:
        assert (download.etag, download.bytes) == ('"v2"', len(changed))


# Errors that are not retried


@pytest.mark.parametrize("code", [403, 404])
def test_a_missing_month_is_not_retried_and_the_error_explains_the_tlcs_delay(
    host: Host, tmp_path: Path, code: int
) -> None:
    host.on(PATH, status(code, DENIED))
    message = expect_failure(NotPublishedError, host, tmp_path)
    assert f"answered {code}" in message
    assert "about two months late" in message
    assert host.count(PATH) == 1


# Responses with one request each, the kind of error, and a part of its message.
REFUSED: dict[str, tuple[Answer, type[TlcError], str]] = {
    **{f"{code}": (status(code), PermanentTlcError, f"answered {code}") for code in (400, 401, 204, 206, 304)},
    "a page": (
        ok(b"<!DOCTYPE html><html>Sign in</html>", Content_Type="text/html"),
        BadFileError,
        "(text/html), but it is not the file: it begins with '<!DOCTYPE html><html>Sign in",
    ),
    "an error of S3": (
        ok(DENIED, Content_Type="application/xml"),
        BadFileError,
        "(application/xml), but it is not the file: it begins with '<?xml version",
    ),
    **{f"{size} bytes": (ok(BODY[:size]), BadFileError, "") for size in (0, 2, 3)},
    "truncated": (ok(BODY[:-1000]), BadFileError, "truncated before publication"),
    "longer than its Content-Length": (ok(BODY, Content_Length=str(len(BODY) - 10)), BadFileError, ""),
    "compressed without a request": (ok(BODY, Content_Encoding="gzip"), BadFileError, "gzip"),
    **{
        f"a redirect to {url}": (redirect(url), PermanentTlcError, "is not followed")
        for url in ("file:///etc/passwd", "ftp://localhost/x", "gopher://localhost/")
    },
    "a redirect to half an address": (redirect("http://[half"), PermanentTlcError, ""),
    "a redirect to a port beyond the last": (redirect("http://localhost:99999/"), PermanentTlcError, ""),
}


@pytest.mark.parametrize("response", REFUSED)
def test_a_response_that_is_not_the_file_is_refused_and_not_requested_again(
    host: Host, tmp_path: Path, response: str
) -> None:
    answer, kind, words = REFUSED[response]
    host.on(PATH, answer)
    assert words in expect_failure(kind, host, tmp_path)
    assert host.count(PATH) == 1


ADVICE: dict[str, tuple[Answer, str, str]] = {
    "a missing file": (status(404), "not have been copied there yet, or TLC_BASE_URL is wrong", "two months late"),
    "another status": (status(401), "Check TLC_BASE_URL", "proxy or a login page"),
    "a page": (ok(b"<html>Sign in</html>"), "Check TLC_BASE_URL", "proxy or a login page"),
    "an empty body": (ok(b""), "Copy the TLC's file to localhost:", "once the TLC has re-issued the file"),
    "truncated": (ok(BODY[:-1000]), "Copy the TLC's file to localhost:", "once the TLC has re-issued the file"),
    "a redirect": (redirect("ftp://localhost/x"), "Check TLC_BASE_URL", "proxy or a login page"),
}


@pytest.mark.parametrize("answer", ADVICE)
def test_the_advice_depends_on_whether_the_host_is_a_mirror_or_the_tlcs(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    response, mirror_advice, tlc_advice = ADVICE[answer]
    host.on(PATH, response)
    with make_client(host) as client, pytest.raises(TlcError, match=mirror_advice):
        client.download(MONTH, tmp_path)
    monkeypatch.setattr(errors, "TLC_BASE_URL", host.url)
    with make_client(host) as client, pytest.raises(TlcError, match=tlc_advice) as raised:
        client.download(MONTH, tmp_path)
    assert "TLC_BASE_URL" not in str(raised.value)


def test_a_file_beyond_the_limit_is_refused_before_it_is_downloaded(host: Host, tmp_path: Path) -> None:
    host.on(PATH, stalled(BODY, 0, 2))
    assert "limit is 1,000 bytes" in expect_failure(BadFileError, host, tmp_path, max_bytes=1000)


def test_a_file_without_a_content_length_is_refused_once_it_exceeds_the_limit(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY, Content_Length=""))
    assert "is larger" in expect_failure(BadFileError, host, tmp_path, max_bytes=1000)


def test_a_redirect_loop_ends(host: Host, tmp_path: Path) -> None:
    host.on(PATH, redirect("/a"))
    host.on("/a", redirect("/b"))
    host.on("/b", redirect("/a"))
    assert "more than 5 redirects" in expect_failure(PermanentTlcError, host, tmp_path)
    assert len(host.times) == 6


def test_a_full_disk_leaves_no_file(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY))

    def raise_disk_full(received: int, total: int | None) -> None:
        raise OSError(28, "No space left on device")

    with make_client(host) as client, pytest.raises(OSError, match="No space left"):
        client.download(MONTH, tmp_path, raise_disk_full)
    assert list(tmp_path.iterdir()) == []
    assert host.count(PATH) == 1


def test_an_interrupted_download_leaves_no_file(host: Host, tmp_path: Path) -> None:
    host.on(PATH, ok(BODY))

    def interrupt(received: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with make_client(host) as client, pytest.raises(KeyboardInterrupt):
        client.download(MONTH, tmp_path, interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_was_stopped_is_not_retried_and_reports_no_retry(host: Host, tmp_path: Path) -> None:
    # The run may have ended already. A log entry for an ended run held Dagster's locks, and the next run waited.
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    host.on(PATH, status(503))
    retries: list[str] = []
    with make_client(host, on_retry=retries.append) as client, pytest.raises(KeyboardInterrupt):
        client.download(MONTH, tmp_path, stop)
    assert (retries, len(host.requests[PATH]), list(tmp_path.iterdir())) == ([], 1, [])


# Requests without a download


def test_a_published_month_is_described_without_a_download(host: Host) -> None:
    host.on(PATH, ok(BODY, ETag='"v1"', Last_Modified="Wed, 06 Mar 2024 12:00:00 GMT"))
    expected = datetime(2024, 3, 6, 12, tzinfo=UTC)
    assert make_client(host).fetch_publication(MONTH) == Publication(host.url + PATH, True, '"v1"', expected, len(BODY))
    assert [command for command, _ in host.requests[PATH]] == ["HEAD"]


@pytest.mark.parametrize("code", [403, 404])
def test_a_missing_month_is_not_published_yet_and_not_an_error(host: Host, code: int) -> None:
    host.on(PATH, status(code, DENIED))
    assert make_client(host).fetch_publication(MONTH) == Publication(host.url + PATH, published=False)


def test_a_broken_host_is_not_mistaken_for_an_unpublished_month(host: Host) -> None:
    host.on(PATH, status(500))
    with pytest.raises(TransientTlcError, match="answered 500"):
        make_client(host).fetch_publication(MONTH)
    assert host.count(PATH) == 3


@pytest.mark.parametrize("headers", [{"Last_Modified": "yesterday"}, {"Last_Modified": "", "Content_Length": "many"}])
def test_invalid_headers_are_left_out(host: Host, headers: dict[str, str]) -> None:
    host.on(PATH, ok(BODY, **headers))
    publication = make_client(host).fetch_publication(MONTH)
    assert publication.published
    assert publication.last_modified is None


# URLs


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "ftp://example.com", "file:///tmp", "https://", "https://user:secret@example.com",
     "https://example.com?x=1", "https://example.com#x", "http://[half", "http://example.com:99999",
     "http://exam ple.com",
     "http://example.com/\n"],
)  # fmt: skip
def test_a_base_url_that_is_not_a_plain_web_address_is_refused_and_not_printed(url: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|not)") as raised:
        TlcClient(url)
    assert "secret" not in str(raised.value)


def test_a_base_url_may_have_a_path_and_a_trailing_slash() -> None:
    assert check_base_url("https://example.com/mirror/") == "https://example.com/mirror"
    assert zones_url("http://example.com/") == "http://example.com/misc/taxi_zone_lookup.csv"
    assert month_url("http://example.com", MONTH) == f"http://example.com{PATH}"


@pytest.mark.parametrize("month", [date(2013, 7, 1), date(2024, 1, 2)])
def test_a_date_that_is_not_a_month_of_the_data_set_has_no_url(month: date) -> None:
    with pytest.raises(ValueError, match="not the first day of a month from 2013-08"):
        month_url("http://example.com", month)


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority that clients do not trust by default."""
    return trustme.CA()


@pytest.fixture
def tls_host(authority: trustme.CA) -> Iterator[Host]:
    """A TLS server with a certificate of `authority` for localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with running_host(context) as running:
        yield running


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CA bundle with `authority` for the clients of the test."""
    bundle = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))


def test_an_untrusted_certificate_is_a_permanent_failure(tls_host: Host, tmp_path: Path) -> None:
    tls_host.on(PATH, ok(BODY))
    assert "certificate is not trusted" in expect_failure(PermanentTlcError, tls_host, tmp_path)
    assert tls_host.count(PATH) == 0


@pytest.mark.usefixtures("trusted")
def test_a_month_is_downloaded_over_tls(tls_host: Host, tmp_path: Path) -> None:
    tls_host.on(PATH, ok(BODY))
    with make_client(tls_host).download(MONTH, tmp_path) as download:
        assert download.path.read_bytes() == BODY


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_http_is_not_followed(tls_host: Host, host: Host, tmp_path: Path) -> None:
    tls_host.on(PATH, redirect(host.url + PATH))
    assert "redirects from https to http, which is not followed" in expect_failure(
        PermanentTlcError, tls_host, tmp_path
    )
    assert host.times == []


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_http_to_https_is_followed(tls_host: Host, host: Host, tmp_path: Path) -> None:
    host.on(PATH, redirect(tls_host.url + PATH, 301))
    tls_host.on(PATH, ok(BODY))
    with make_client(host).download(MONTH, tmp_path) as download:
        assert download.bytes == len(BODY)


def test_importing_the_client_does_not_import_pandas() -> None:
    code = (
        "import sys, taxi_orchestration.tlc.client, taxi_orchestration.tlc.parquet; sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
