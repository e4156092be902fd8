"""Messages to real servers on loopback: a webhook over HTTP and a mailbox over SMTP."""

import socket
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default

import apprise
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from click.testing import CliRunner
from pydantic import SecretStr
from pytest_httpserver import HTTPServer

from taxi_orchestration.cli.commands import main
from taxi_orchestration.defs.notify import Message, NotifyError, scrubbed, send
from taxi_orchestration.settings import PROJECT_DIRECTORY, SettingsError, load_settings, parse_alert_urls

MESSAGE = Message("taxi: raw_trips failed for 2024-02", "Why: the host said 500.\nTo do: wait.")


class Mailbox:
    """An SMTP handler that accepts and stores every mail."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content)
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, str]]:
    """The handler of a running SMTP server, and the URL of a mailbox on this server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, f"mailto://127.0.0.1:{port}?from=taxi@example.org&to=ada@example.org"
    controller.stop()


def serve_webhook(httpserver: HTTPServer, status: int = 200) -> str:
    httpserver.expect_request("/alerts", method="POST").respond_with_data("", status)
    return f"json://taxi:hush-hush@{httpserver.host}:{httpserver.port}/alerts"


def test_a_webhook_gets_the_message_and_its_type(httpserver: HTTPServer) -> None:
    assert send([SecretStr(serve_webhook(httpserver))], MESSAGE) == []
    sent = httpserver.log[0][0].get_json()
    assert (sent["title"], sent["message"], sent["type"]) == (MESSAGE.title, MESSAGE.body, "failure")


def test_a_mailbox_gets_the_message(mailbox: tuple[Mailbox, str]) -> None:
    box, url = mailbox
    assert send([SecretStr(url)], MESSAGE) == []
    mail = message_from_bytes(box.mails[0], policy=default)
    assert mail["Subject"] == MESSAGE.title
    assert mail["To"] == "ada@example.org"
    assert "the host said 500" in mail.as_string()


def test_a_service_that_refuses_is_named_and_the_others_get_the_message(
    httpserver: HTTPServer, mailbox: tuple[Mailbox, str]
) -> None:
    box, url = mailbox
    (refused,) = send([SecretStr(serve_webhook(httpserver, 500)), SecretStr(url)], MESSAGE)
    assert "number 1" in refused
    assert "hush" not in refused
    assert len(box.mails) == 1


def test_a_message_that_no_service_accepted_is_an_error_without_a_password(httpserver: HTTPServer) -> None:
    with pytest.raises(NotifyError, match="No service accepted") as error:
        send([SecretStr(serve_webhook(httpserver, 500))], MESSAGE)
    assert "hush" not in str(error.value)


def test_no_secret_is_sent(httpserver: HTTPServer) -> None:
    body = "postgresql://taxi:pw1@host/db, password=pw2, https://h/?token=pw3&a=1, and then pw4 by itself"
    send([SecretStr(serve_webhook(httpserver))], Message("t", body), secrets=["pw4"])
    sent = httpserver.log[0][0].get_json()["message"]
    assert "pw" not in sent.replace("password", "")
    assert "@host/db" in sent
    assert "a=1" in sent


def test_text_without_a_secret_is_not_changed() -> None:
    text = "https://d37ci6vzurychx.cloudfront.net/trip-data/x.parquet at 12:30, mail to ada@example.org"
    assert scrubbed(text) == text


def test_several_urls_are_separated_by_commas_or_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "TAXI_ALERT_URLS", "json://a.example/x, json://b.example/y\n mailto://c.example?from=a@e.example&to=d@e.example"
    )
    assert len(load_settings().alert_urls) == 3


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("slack://TokenA/TokenB/TokenC", "Slack"),
        ("workflows://prod-03.westus.logic.azure.com:443/643e69f83c8944/abcdefghij", "MSTeams"),
        ("mailtos://ada:password@example.org", "E-Mail"),
        ("jsons://host.example/alerts", "JSON"),
    ],
)
def test_urls_of_slack_teams_mail_and_webhooks_are_accepted(url: str, service: str) -> None:
    assert parse_alert_urls(url) == [url]
    address = apprise.Apprise.instantiate(url)
    assert address
    assert service in str(address.service_name)


def test_the_example_of_an_alert_url_in_env_example_is_valid() -> None:
    lines = (PROJECT_DIRECTORY / ".env.example").read_text().splitlines()
    (example,) = [line.partition("=")[2] for line in lines if line.startswith("#TAXI_ALERT_URLS=")]
    assert len(parse_alert_urls(example)) == 2


@pytest.mark.parametrize(
    "text", ["nonsense", "nonsense://hush-hush@host", "json://ok.example nonsense://hush-hush@host"]
)
def test_an_invalid_alert_url_is_refused_at_the_start_without_printing_it(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("TAXI_ALERT_URLS", text)
    with pytest.raises(SettingsError, match="TAXI_ALERT_URLS must be") as error:
        load_settings()
    assert "hush" not in str(error.value)
    assert "nonsense" not in str(error.value)


def test_the_representation_of_the_settings_does_not_show_the_alert_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXI_ALERT_URLS", "json://taxi:hush-hush@host.example")
    settings = load_settings()
    assert settings.alert_urls
    assert "hush" not in repr(settings)


def test_alert_test_sends_one_message_to_everybody(
    httpserver: HTTPServer, mailbox: tuple[Mailbox, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_ALERT_URLS", f"{serve_webhook(httpserver)} {mailbox[1]}")
    result = CliRunner().invoke(main, ["alert-test"])
    assert result.exit_code == 0, result.output
    assert "2 of 2" in result.output
    assert len(httpserver.log) == len(mailbox[0].mails) == 1


def test_alert_test_names_the_service_that_refused_the_message(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAXI_ALERT_URLS", serve_webhook(httpserver, 500))
    result = CliRunner().invoke(main, ["alert-test"])
    assert result.exit_code == 1
    assert "number 1 of TAXI_ALERT_URLS" in result.output
    assert "hush" not in result.output


def test_alert_test_without_a_url_says_what_to_set() -> None:
    result = CliRunner().invoke(main, ["alert-test"])
    assert result.exit_code == 2
    assert "TAXI_ALERT_URLS is not set" in result.output
