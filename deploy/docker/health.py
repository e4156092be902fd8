"""Health check of the server in this container: `health.py code-server` or `health.py webserver`.

Dagster's own command for the code server imports all of Dagster: 1.5 s of CPU for every check.
"""

import sys
from http.client import HTTPConnection

CODE_SERVER = "127.0.0.1:4000"
WEBSERVER = ("127.0.0.1", 3000)
TIMEOUT_SECONDS = 10


def is_code_server_serving() -> bool:
    """Return whether Dagster's gRPC server serves. It does so with broken code too, whose error the UI shows."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(CODE_SERVER) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service="DagsterApi"), timeout=TIMEOUT_SECONDS)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def is_webserver_responding() -> bool:
    """Return whether the UI responds."""
    connection = HTTPConnection(*WEBSERVER, timeout=TIMEOUT_SECONDS)
    connection.request("GET", "/server_info")
    return connection.getresponse().status == 200


if __name__ == "__main__":
    (server,) = sys.argv[1:]
    sys.exit(not {"code-server": is_code_server_serving, "webserver": is_webserver_responding}[server]())
