"""What keeps a file of the TLC's from being loaded: what a retry can help, what it cannot, and this machine.

Every message says what was being done, for which month and URL, what was found, and what to do now. What there is to do
depends on the host: for a file of the TLC's own one can only wait, on a mirror (TLC_BASE_URL) one can mend it.
"""

from urllib.parse import urlsplit

from taxi_orchestration.settings import TLC_BASE_URL


class TlcError(Exception):
    """Anything that keeps a file of the TLC from being downloaded or read."""


class TransientTlcError(TlcError):
    """A retry can help: host unreachable, time-out, 429 or 5xx to the last attempt, a body cut off.

    `retry_after` is the pause in seconds that the host asked for, where it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableTlcError(TransientTlcError):
    """No connection to the host could be made: no network, no such name, nobody who listens."""


class PermanentTlcError(TlcError):
    """A retry cannot help: something has to change first, at the TLC's or here."""


class LocalFileError(TlcError):
    """The file of a month could not be kept on this machine: no room, no right, no disk."""


class NotPublishedError(PermanentTlcError):
    """The file is not there (403 or 404): not published yet, or withdrawn."""


class BadFileError(PermanentTlcError):
    """There is a file, but it is not a month of trips that can be loaded without loss."""


class UnsupportedFileError(BadFileError):
    """The file may be whole, but the parquet reader has not implemented what is in it."""


def is_tlc_url(url: str) -> bool:
    """Whether a URL leads to the TLC's own host and not to a mirror."""
    return urlsplit(url).hostname == urlsplit(TLC_BASE_URL).hostname


def advise_new_copy(url: str) -> str:
    """What to do about a file that is damaged, empty or another one."""
    if is_tlc_url(url):
        return "Try again once the TLC has published it anew."
    return f"Copy the TLC's file to {urlsplit(url).netloc} anew and try again, or unset TLC_BASE_URL."


def advise_address(url: str) -> str:
    """What to do about an answer that no host of the TLC's files gives."""
    if is_tlc_url(url):
        return "Open the address in a browser: a proxy or a login page of this network may answer in place of the TLC."
    return "Check TLC_BASE_URL."
