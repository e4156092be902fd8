"""What keeps a file of the TLC's from being loaded: what a retry can help, what it cannot, and this machine.

Every message says what was being done, for which month and URL, what was found, and what to do now.
"""


class TlcError(Exception):
    """Anything that keeps a file of the TLC from being downloaded or read."""


class TransientTlcError(TlcError):
    """A retry can help: host unreachable, time-out, 429 or 5xx to the last attempt, a body cut off.

    `retry_after` is the pause in seconds that the host asked for, where it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentTlcError(TlcError):
    """A retry cannot help: something has to change first, at the TLC's or here."""


class LocalFileError(TlcError):
    """The file of a month could not be kept on this machine: no room, no right, no disk."""


class NotPublishedError(PermanentTlcError):
    """The file is not there (403 or 404): not published yet, or withdrawn."""


class BadFileError(PermanentTlcError):
    """There is a file, but it is not a month of trips that can be loaded without loss."""
