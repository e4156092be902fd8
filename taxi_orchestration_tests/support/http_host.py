"""An HTTP server on loopback with scripted answers, valid and faulty."""

import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


class Host:
    """A server with scripted answers. Each request of a path gets the next answer of the path; the last one repeats."""

    def __init__(self, port: int, scheme: str) -> None:
        self.url = f"{scheme}://localhost:{port}"
        self.answers: dict[str, list[Answer]] = {}
        self.requests: dict[str, list[tuple[str, Mapping[str, str]]]] = defaultdict(list)
        self.times: list[float] = []

    def on(self, path: str, *answers: Answer) -> None:
        """Set the answers of a path."""
        self.answers[path] = list(answers)

    def count(self, path: str) -> int:
        """Return the number of requests for a path."""
        return len(self.requests[path])

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        self.times.append(time.monotonic())
        seen = self.requests[handler.path]
        seen.append((handler.command, dict(handler.headers)))
        answers = self.answers.get(handler.path, [status(403, b"<Error>AccessDenied</Error>")])
        answers[min(len(seen), len(answers)) - 1](handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect: the tests cause this."""


@contextmanager
def running_host(context: ssl.SSLContext | None = None) -> Iterator[Host]:
    """Run a host on a free port of loopback for the duration of the block, over TLS if `context` is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # With Nagle's algorithm every body waits 40 ms, until the client has acknowledged the headers.
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            try:
                host.handle(self)
            except OSError:
                self.close_connection = True

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    host = Host(server.server_port, "https" if context else "http")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ok(body: bytes, **headers: str) -> Answer:
    """Return an answer with status 200. The header `Content_Length` replaces the true one; "" omits it."""
    return status(200, body, **headers)


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer with a status, a body and headers. Header names have _ in place of -."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        all_headers = {"Content-Length": str(len(body))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        for name, value in all_headers.items():
            if value:
                handler.send_header(name, value)
        if all_headers["Content-Length"] != str(len(body)):
            handler.close_connection = True
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer


def redirect(target: str, code: int = 302) -> Answer:
    """Return an answer that redirects to another address."""
    return status(code, Location=target)


def reset_after(body: bytes, sent: int) -> Answer:
    """Return an answer that sends the first `sent` bytes of the body, and then a TCP reset."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:sent])
        handler.wfile.flush()
        time.sleep(0.05)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()

    return answer


def drip(body: bytes, pause: float) -> Answer:
    """Return an answer that sends the body one byte at a time."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for i in range(len(body)):
            handler.wfile.write(body[i : i + 1])
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def silent(seconds: float) -> Answer:
    """Return an answer that sends nothing for some seconds, and then closes the connection."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def stalled(body: bytes, sent: int, seconds: float) -> Answer:
    """Return an answer that sends the first `sent` bytes of the body, and then nothing for some seconds."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:sent])
        handler.wfile.flush()
        time.sleep(seconds)
        handler.close_connection = True

    return answer
