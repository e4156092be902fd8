"""Sending messages to the services of TAXI_ALERT_URLS. alerts.py composes the messages."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apprise
from pydantic import SecretStr

# apprise's log lines may hold an address with its password: they are read here and go nowhere else.
apprise.logger.propagate = False

_HIDDEN = "***"
# user:password@ of a URL, and password=... of a connection string or a query.
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_NAMED = re.compile(r"(?i)\b((?:pass(?:word|wd)?|pwd|secret|token|api_?key)\s*[=:]\s*)[^\s&;,'\"]+")


class NotifyError(Exception):
    """No service accepted a message; names each service and its error, without passwords."""


@dataclass(frozen=True)
class Message:
    """A message: title, text, and whether it reports an incident."""

    title: str
    body: str
    is_bad: bool = True


def send(urls: Sequence[SecretStr], message: Message, secrets: Iterable[str] = ()) -> list[str]:
    """Send a message to every service; return the errors of those that did not accept it.

    Raises NotifyError if no service accepted it.
    """
    kind = apprise.NotifyType.FAILURE if message.is_bad else apprise.NotifyType.SUCCESS
    secrets = list(secrets)
    title, body = scrubbed(message.title, secrets), scrubbed(message.body, secrets)
    refused = []
    for number, url in enumerate(urls, 1):
        services = apprise.Apprise()
        services.add(url.get_secret_value())
        with apprise.LogCapture(level=apprise.logging.WARNING, fmt="%(message)s") as log:
            if not services.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
                name = services[0].service_name if len(services) else "service"
                reason = " ".join(scrubbed(log.getvalue(), [*secrets, url.get_secret_value()]).split())
                refused.append(
                    f"number {number} of TAXI_ALERT_URLS ({name}): {reason or 'it did not accept the message'}"
                )
    if refused and len(refused) == len(urls):
        raise NotifyError(f"No service accepted the message {title!r}. {' '.join(refused)}")
    return refused


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without these secrets, logins in URLs and values named password."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    return _NAMED.sub(rf"\g<1>{_HIDDEN}", _LOGIN.sub(f"{_HIDDEN}@", text))
