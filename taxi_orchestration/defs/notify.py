"""A message to the services that TAXI_ALERT_URLS names. What is worth one is decided in alerts.py."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apprise
from pydantic import SecretStr

# What it says may hold an address with its password: it is read here, and goes nowhere else.
apprise.logger.propagate = False

_HIDDEN = "***"
# user:password@ of a URL, and password=... of a connection string or a query.
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_NAMED = re.compile(r"(?i)\b((?:pass(?:word|wd)?|pwd|secret|token|api_?key)\s*[=:]\s*)[^\s&;,'\"]+")


class NotifyError(Exception):
    """No service took a message; says which, and what each said, without passwords."""


@dataclass(frozen=True)
class Message:
    """A title, a text, and whether it is bad news."""

    title: str
    body: str
    is_bad: bool = True


def send(urls: Sequence[SecretStr], message: Message, secrets: Iterable[str] = ()) -> list[str]:
    """Send a message to every service; returns what those say that did not take it.

    Raises NotifyError where none took it.
    """
    kind = apprise.NotifyType.FAILURE if message.is_bad else apprise.NotifyType.SUCCESS
    secrets = list(secrets)
    title, body = scrubbed(message.title, secrets), scrubbed(message.body, secrets)
    refused = []
    for number, url in enumerate(urls, 1):
        services = apprise.Apprise()
        services.add(url.get_secret_value())
        with apprise.LogCapture(level=apprise.logging.WARNING, fmt="%(message)s") as said:
            if not services.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT):
                name = services[0].service_name if len(services) else "service"
                reason = " ".join(scrubbed(said.getvalue(), [*secrets, url.get_secret_value()]).split())
                refused.append(
                    f"number {number} of TAXI_ALERT_URLS ({name}): {reason or 'it did not take the message'}"
                )
    if refused and len(refused) == len(urls):
        raise NotifyError(f"No service took the message {title!r}. {' '.join(refused)}")
    return refused


def scrubbed(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these secrets, without logins in URLs, and without what calls itself a password."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    return _NAMED.sub(rf"\g<1>{_HIDDEN}", _LOGIN.sub(f"{_HIDDEN}@", text))
