"""The errors of a file of the TLC: those that a retry can help, those that it cannot, and those of this machine.

Every message names the action, month and URL, what was found, and the next step. The next step depends on the host: a
file of the TLC can only be waited for, a file of a mirror (TLC_BASE_URL) can be repaired.
"""

from urllib.parse import urlsplit

from taxi_orchestration.settings import TLC_BASE_URL


class TlcError(Exception):
    """Any error that prevents a file of the TLC from being downloaded or read."""


class TransientTlcError(TlcError):
    """An error that a retry can help: host unreachable, time-out, 429 or 5xx at the last attempt, a truncated body.

    `retry_after` is the pause in seconds that the host requested, if any.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnreachableTlcError(TransientTlcError):
    """No connection to the host could be made: no network, an unknown name, or a closed port."""


class PermanentTlcError(TlcError):
    """An error that a retry cannot help until the file, the host or the settings change."""


class LocalFileError(TlcError):
    """A downloaded file could not be stored on this machine: no space, no permission, or a disk error."""


class NotPublishedError(PermanentTlcError):
    """The host does not have the file (403 or 404): not published yet, or withdrawn."""


class BadFileError(PermanentTlcError):
    """The file is not a month of trips that can be loaded without loss."""


class UnsupportedFileError(BadFileError):
    """The file may be whole, but needs a feature that the parquet reader has not implemented."""


def is_tlc_url(url: str) -> bool:
    """Return whether a URL is of the TLC's own host and not of a mirror."""
    return urlsplit(url).hostname == urlsplit(TLC_BASE_URL).hostname


def advise_new_copy(url: str) -> str:
    """Return the next step for a file that is damaged, empty or a different one."""
    if is_tlc_url(url):
        return "Try again once the TLC has re-issued the file."
    return f"Copy the TLC's file to {urlsplit(url).netloc} again and retry, or unset TLC_BASE_URL."


def advise_address(url: str) -> str:
    """Return the next step for a response that no host of the TLC's files sends."""
    if is_tlc_url(url):
        return "Open the address in a browser: a proxy or a login page of this network may answer in place of the TLC."
    return "Check TLC_BASE_URL."
