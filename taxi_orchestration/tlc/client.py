"""The TLC's download host: the URL of a month's file, its publication, and its download.

HTTP and its failures belong here. The content of a file, beyond its first and last bytes, does not.
"""

import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import IO, NoReturn, Self, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_any,
    stop_before_delay,
    wait_random_exponential,
)

from taxi_orchestration.settings import check_base_url
from taxi_orchestration.tlc.dataset import DATASET, DataSet
from taxi_orchestration.tlc.errors import (
    BadFileError,
    NotPublishedError,
    PermanentTlcError,
    TransientTlcError,
    UnreachableTlcError,
    advise_address,
    advise_new_copy,
    is_tlc_url,
)

T = TypeVar("T")
OnProgress = Callable[[int, int | None], None]
"""Called with the bytes received so far and the total bytes if the host sends them. An exception of the callback ends
the download."""

MAX_REDIRECTS = 5
MAX_RETRY_AFTER = 120.0
MAX_ZONES_BYTES = 16 * 2**20
CHUNK_BYTES = 256 * 1024
PARQUET_MAGIC = b"PAR1"
ZIP_MAGIC = b"PK\x03\x04"
USER_AGENT = "taxi-orchestration (pipeline for NYC TLC trip records)"

_UNREACHABLE = "Check the network and TLC_BASE_URL, then try again."
# Attempts at a host that no connection was made to yet: without a network, five attempts take 38 s.
_ATTEMPTS_AT_FIRST = 2
_LATE = "The TLC publishes a month about two months late: try again later, or load an earlier month."
_LATE_COPY = f"It may not have been copied there yet, or TLC_BASE_URL is wrong. {_LATE}"
_AS_IT_IS = "The host, or a proxy in front of the host, must send files without Content-Encoding."
_AUTHORITY = "If a proxy or a mirror has its own certificate authority, set REQUESTS_CA_BUNDLE to its certificate."
_REDIRECTS = {301, 302, 303, 307, 308}
_NOT_THERE = {403, 404}
_TRY_LATER = {408, 425, 429}


def month_url(base_url: str, month: date, dataset: DataSet = DATASET) -> str:
    """Return the URL of a month's file. Raises ValueError for a day within a month, or before the first month."""
    if month.day != 1 or month < dataset.first_month:
        raise ValueError(f"{month} is not the first day of a month from {dataset.first_month:%Y-%m} on.")
    return f"{check_base_url(base_url)}/trip-data/{dataset.file_name(month)}"


def zones_url(base_url: str) -> str:
    """Return the URL of the table of taxi zones."""
    return f"{check_base_url(base_url)}/misc/taxi_zone_lookup.csv"


def zone_shapes_url(base_url: str) -> str:
    """Return the URL of the shapes of the taxi zones."""
    return f"{check_base_url(base_url)}/misc/taxi_zones.zip"


@dataclass(frozen=True)
class Publication:
    """The host's metadata of a month's file, without the file itself."""

    url: str
    published: bool
    etag: str | None = None
    last_modified: datetime | None = None
    bytes: int | None = None

    @property
    def version(self) -> str:
        """Return the version of the file."""
        return version_of(self.etag, self.last_modified, self.bytes)


def is_same_version(
    publication: Publication, etag: str | None, last_modified: datetime | None, size: int | None
) -> bool:
    """Return whether a downloaded file is the published one. A size that the host does not publish is not compared."""
    return publication.version == version_of(etag, last_modified, None if publication.bytes is None else size)


def version_of(etag: str | None, last_modified: datetime | None, size: int | None) -> str:
    """Return a word that identifies a version of a file: its ETag, or its date and size if the host sends no ETag."""
    dated = last_modified.astimezone(UTC).strftime("%Y%m%dT%H%M%S") if last_modified else "undated"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", etag or f"{dated}-{size}").strip("-")


@dataclass(frozen=True)
class Download:
    """A downloaded temporary file; as a context manager, it is deleted when the block ends."""

    path: Path
    url: str
    etag: str | None
    last_modified: datetime | None
    bytes: int
    sha256: str

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


class _Session(requests.Session):
    """A session without redirects: requests reads the whole body of a redirect even if it does not follow it."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


@dataclass(frozen=True)
class _Task:
    """A request: its description for messages, its URL, its deadline, and the advice for a missing file."""

    doing: str
    url: str
    deadline: float
    if_missing: str

    def describe(self, found: str) -> str:
        return f"{self.doing} ({self.url}): {found}"


class TlcClient:
    """A client of the TLC's download host. Several threads can use one client.

    The client makes at most `attempts` attempts, with growing random pauses, and starts none after `total_timeout`
    seconds. `read_timeout` is the longest silence of the host; `total_timeout` also ends a slow download. Without a
    connection to the host so far, two attempts are made. `on_retry` is called with a sentence before each retry.
    """

    def __init__(
        self,
        base_url: str,
        dataset: DataSet = DATASET,
        *,
        connect_timeout: float = 10,
        read_timeout: float = 60,
        total_timeout: float = 1800,
        attempts: int = 5,
        max_bytes: int = 2 * 2**30,
        first_pause: float = 1,
        max_pause: float = 60,
        on_retry: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.base_url = check_base_url(base_url)
        self.dataset = dataset
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self.total_timeout = total_timeout
        self.attempts = attempts
        self.max_bytes = max_bytes
        self._pause = wait_random_exponential(multiplier=first_pause, max=max_pause)
        self._on_retry = on_retry
        self._was_reached = False
        self._session = _Session()
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"})
        # Cookies are the only state that threads would share through a session, and no file of the TLC needs one.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def close(self) -> None:
        """Close the open connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetch_publication(self, month: date) -> Publication:
        """Fetch whether a month is published, and its version. Raises TransientTlcError or PermanentTlcError."""
        task = self._month_task("Requesting", month)

        def fetch() -> Publication:
            with self._open("HEAD", task) as response:
                return Publication(
                    task.url, True, response.headers.get("ETag"), _last_modified(response), _content_length(response)
                )

        try:
            return self._retry(task, fetch)
        except NotPublishedError:
            return Publication(task.url, published=False)

    def download(self, month: date, directory: Path, on_progress: OnProgress | None = None) -> Download:
        """Download a month's file into an existing directory and check parquet's magic.

        Raises TransientTlcError, PermanentTlcError (NotPublishedError, BadFileError) or LocalFileError, and leaves no
        file then.
        """
        task = self._month_task("Downloading", month)

        def check_end(path: Path) -> None:
            with path.open("rb") as file:
                file.seek(-len(PARQUET_MAGIC), 2)
                tail = file.read()
            if tail != PARQUET_MAGIC:
                found = "the file starts as parquet but does not end as parquet, so it was truncated before publication"
                raise BadFileError(task.describe(f"{found}. {advise_new_copy(task.url)}"))

        return self._download(
            task,
            directory,
            f"{Path(self.dataset.file_name(month)).stem}.",
            self.max_bytes,
            PARQUET_MAGIC,
            check_end,
            on_progress,
        )

    def download_zones(self, directory: Path) -> Download:
        """Download the table of taxi zones into `directory`. Raises TlcError, and leaves no file then."""
        url = zones_url(self.base_url)
        task = self._task("Downloading the taxi zones", url, advise_address(url))
        return self._download(task, directory, "taxi_zone_lookup.", MAX_ZONES_BYTES, b"")

    def download_zone_shapes(self, directory: Path) -> Download:
        """Download the shapes of the taxi zones into `directory`. Raises TlcError, and leaves no file then."""
        url = zone_shapes_url(self.base_url)
        task = self._task("Downloading the shapes of the taxi zones", url, advise_address(url))
        return self._download(task, directory, "taxi_zones.", MAX_ZONES_BYTES, ZIP_MAGIC)

    def _month_task(self, doing: str, month: date) -> _Task:
        return self._task(f"{doing} {self.dataset.label} {month:%Y-%m}", month_url(self.base_url, month, self.dataset))

    def _task(self, doing: str, url: str, if_missing: str | None = None) -> _Task:
        late = _LATE if is_tlc_url(url) else _LATE_COPY
        return _Task(doing, url, time.monotonic() + self.total_timeout, if_missing or late)

    def _retry(self, task: _Task, attempt: Callable[[], T], on_progress: OnProgress | None = None) -> T:
        """Call `attempt` until it succeeds, fails permanently, or the attempts are used up; return its result."""

        def error_of(state: RetryCallState) -> BaseException | None:
            return state.outcome.exception() if state.outcome else None

        def attempts_for(error: BaseException | None) -> int:
            is_out_of_reach = isinstance(error, UnreachableTlcError) and not self._was_reached
            return min(self.attempts, _ATTEMPTS_AT_FIRST) if is_out_of_reach else self.attempts

        def pause(state: RetryCallState) -> float:
            error = error_of(state)
            retry_after = error.retry_after if isinstance(error, TransientTlcError) else None
            return self._pause(state) if retry_after is None else min(retry_after, MAX_RETRY_AFTER)

        def report(state: RetryCallState) -> None:
            if on_progress:
                # The callback raises if the download was stopped: then no retry must be reported.
                on_progress(0, None)
            error = error_of(state)
            attempt = f"Attempt {state.attempt_number + 1} of {attempts_for(error)}"
            self._on_retry(f"{error} {attempt} follows in {state.upcoming_sleep:.0f} s.")

        retrying = Retrying(
            retry=retry_if_exception_type(TransientTlcError),
            stop=stop_any(
                lambda state: state.attempt_number >= attempts_for(error_of(state)),  # type: ignore[arg-type]
                stop_before_delay(self.total_timeout),
            ),
            wait=pause,
            before_sleep=report,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TransientTlcError as error:
            made = retrying.statistics["attempt_number"]
            advice = (
                _UNREACHABLE if isinstance(error, UnreachableTlcError) else "Try again later, and check the network."
            )
            tries = attempts_for(error)
            gave_up = f" Gave up after {made} of {tries} attempts." if tries > 1 else ""
            raise type(error)(f"{error}{gave_up} {advice}", retry_after=error.retry_after) from error

    def _open(self, method: str, task: _Task) -> requests.Response:
        """Send a request, follow redirects, and return the response with status 200; raise for any other status."""
        url = task.url
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(method, url, task)
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                if response.status_code == 200:
                    return response
                with response:
                    self._refuse(response, task)
            response.close()
            url = self._redirected(url, response.headers["Location"], task)
        raise PermanentTlcError(
            task.describe(f"more than {MAX_REDIRECTS} redirects in a row. {advise_address(task.url)}")
        )

    def _redirected(self, url: str, location: str, task: _Task) -> str:
        """Return the target of a redirect. Raises PermanentTlcError for other schemes and from https to http."""
        try:
            target = urljoin(url, location)
            before, after = urlsplit(url).scheme, urlsplit(target).scheme
        except ValueError as error:
            found = f"the host redirects to an invalid address ({error})"
            raise PermanentTlcError(task.describe(f"{found}. {advise_address(task.url)}")) from error
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            found = f"the host redirects from {before} to {after}, which is not followed"
            raise PermanentTlcError(task.describe(f"{found}. {advise_address(task.url)}"))
        return target

    def _send(self, method: str, url: str, task: _Task) -> requests.Response:
        """Send one request and return the response with an unread body."""
        timeout = (self.connect_timeout, min(self.read_timeout, max(task.deadline - time.monotonic(), 0.1)))
        try:
            response = self._session.request(method, url, timeout=timeout, stream=True, allow_redirects=False)
        except requests.ConnectTimeout as error:
            found = f"the host does not answer: no connection within {timeout[0]:g} s"
            raise UnreachableTlcError(task.describe(f"{found}.")) from error
        except requests.Timeout as error:
            raise TransientTlcError(task.describe(f"no answer within {timeout[1]:g} s.")) from error
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                found = "the host's certificate is not trusted"
                raise PermanentTlcError(task.describe(f"{found}: {_reason(error)}. {_AUTHORITY}")) from error
            raise TransientTlcError(task.describe(f"the TLS connection failed: {_reason(error)}.")) from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            if unreachable := _unreachable(error, urlsplit(url).hostname or ""):
                raise UnreachableTlcError(task.describe(f"{unreachable}.")) from error
            raise TransientTlcError(task.describe(f"the host closed the connection: {_reason(error)}.")) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            advice = advise_address(task.url)
            raise PermanentTlcError(task.describe(f"the request cannot be made: {_reason(error)}. {advice}")) from error
        self._was_reached = True
        return response

    def _refuse(self, response: requests.Response, task: _Task) -> NoReturn:
        """Raise the error of a status other than 200."""
        status = f"the host answered {response.status_code} {response.reason}".rstrip()
        if response.status_code in _NOT_THERE:
            raise NotPublishedError(task.describe(f"{status}: the file is not there. {task.if_missing}"))
        if response.status_code in _TRY_LATER or response.status_code >= 500:
            raise TransientTlcError(task.describe(f"{status}."), retry_after=_retry_after(response))
        raise PermanentTlcError(task.describe(f"{status}, an unexpected status. {advise_address(task.url)}"))

    def _download(
        self,
        task: _Task,
        directory: Path,
        prefix: str,
        max_bytes: int,
        magic: bytes,
        check: Callable[[Path], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Download:
        """Download to a temporary file; delete the file on any failure."""
        with tempfile.NamedTemporaryFile(dir=directory, prefix=prefix, suffix=".part", delete=False) as file:
            path = Path(file.name)
            try:
                download = self._retry(
                    task, lambda: self._receive(task, file.file, path, max_bytes, magic, on_progress), on_progress
                )
                if check:
                    check(path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return download

    def _receive(
        self,
        task: _Task,
        file: IO[bytes],
        path: Path,
        max_bytes: int,
        magic: bytes,
        on_progress: OnProgress | None,
    ) -> Download:
        """Make one attempt at a download, from byte 0: an earlier attempt may have received another version."""
        file.seek(0)
        file.truncate()
        digest, received, head = hashlib.sha256(), 0, b""
        with self._open("GET", task) as response:
            total = _content_length(response)
            if total is not None and total > max_bytes:
                raise BadFileError(task.describe(_too_large(f"has {total:,} bytes", max_bytes)))
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                found = f"the host sent the file encoded as {encoding}, which was not requested"
                raise BadFileError(task.describe(f"{found}. {_AS_IT_IS}"))
            while chunk := self._read(response, task, received, total):
                if len(head) < len(magic):
                    head += chunk[:64]
                    if not head.startswith(magic[: len(head)]):
                        raise BadFileError(task.describe(_not_the_file(task, response, head)))
                received += len(chunk)
                if received > max_bytes:
                    raise BadFileError(task.describe(_too_large("is larger", max_bytes)))
                file.write(chunk)
                digest.update(chunk)
                if on_progress:
                    on_progress(received, total)
            if len(head) < len(magic):
                raise BadFileError(task.describe(_not_the_file(task, response, head)))
            file.flush()
            return Download(
                path, task.url, response.headers.get("ETag"), _last_modified(response), received, digest.hexdigest()
            )

    def _read(self, response: requests.Response, task: _Task, received: int, total: int | None) -> bytes:
        """Return the received bytes of the body. `read1` does not wait for more, so a slow host meets the deadline."""
        so_far = f"after {received:,} of {'?' if total is None else format(total, ',')} bytes"
        if time.monotonic() > task.deadline:
            raise TransientTlcError(task.describe(f"not complete {so_far} and {self.total_timeout} s."))
        try:
            return response.raw.read1(CHUNK_BYTES, decode_content=False) or b""
        except urllib3.exceptions.ReadTimeoutError as error:
            raise TransientTlcError(task.describe(f"nothing arrived for {self.read_timeout} s {so_far}.")) from error
        except urllib3.exceptions.HTTPError as error:
            raise TransientTlcError(task.describe(f"the connection broke {so_far}: {_reason(error)}.")) from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes, outermost first: requests and urllib3 wrap errors in three ways."""
    seen: list[BaseException] = []
    to_see: list[object] = [error]
    while to_see:
        cause = to_see.pop(0)
        if isinstance(cause, BaseException) and cause not in seen:
            seen.append(cause)
            yield cause
            to_see += [getattr(cause, "reason", None), *cause.args, cause.__cause__, cause.__context__]


def _unreachable(error: BaseException, host: str) -> str | None:
    """Return why no connection could be made, as text; None if a connection was made."""
    for cause in _causes(error):
        match cause:
            case urllib3.exceptions.ProxyError():
                return f"the proxy of HTTPS_PROXY or HTTP_PROXY cannot be used: {_reason(cause)}"
            case urllib3.exceptions.NameResolutionError():
                return f"the name {host} cannot be resolved, so this machine has no network or the name is wrong"
            case urllib3.exceptions.NewConnectionError():
                return f"the host cannot be reached: {_reason(cause)}"
    return None


def _reason(error: BaseException) -> str:
    """Return the innermost cause of an error as text, without the names of the wrapping objects."""
    *_, last = _causes(error)
    return (last.strerror if isinstance(last, OSError) else None) or str(last) or type(last).__name__


def _too_large(found: str, max_bytes: int) -> str:
    return f"the file {found}; the limit is {max_bytes:,} bytes. If the file is correct, raise max_bytes in {__name__}."


def _not_the_file(task: _Task, response: requests.Response, head: bytes) -> str:
    if not head:
        return f"status 200 with an empty body. {advise_new_copy(task.url)}"
    kind = response.headers.get("Content-Type", "no content type")
    begin = head[:40].decode(errors="replace")
    return f"status 200 ({kind}), but it is not the file: it begins with {begin!r}. {advise_address(task.url)}"


def _content_length(response: requests.Response) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def _http_date(value: str | None) -> datetime | None:
    """Parse an HTTP date; None if `value` is missing or invalid."""
    try:
        moment = parsedate_to_datetime(value) if value else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None


def _last_modified(response: requests.Response) -> datetime | None:
    return _http_date(response.headers.get("Last-Modified"))


def _retry_after(response: requests.Response) -> float | None:
    """Return the pause in seconds that the host requests, in seconds or as a date."""
    value = response.headers.get("Retry-After", "")
    if value.isascii() and value.isdigit():
        return float(value)
    moment = _http_date(value)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0) if moment else None
