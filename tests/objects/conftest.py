"""A real S3 server (moto's) on loopback, which refuses, breaks off or forgets as it is told."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from medfocus_pipeline import object_systems
from medfocus_pipeline.object_paths import ObjectPath

Fault = Callable[[str, str], "tuple[str, str] | None"]
"""Of method and path: status and S3's code of the answer, or ``("break", "")``; None for none."""


@dataclass
class Server:
    """What was asked of it, and how it fails."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    fault: Fault = lambda method, path: None
    under_way: set[object] = field(default_factory=set)
    ended: threading.Condition = field(default_factory=threading.Condition)
    app: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        request = object()
        self.under_way.add(request)
        try:
            return self._answer(environ, start)
        finally:
            with self.ended:
                self.under_way.remove(request)
                self.ended.notify_all()

    def settle(self) -> None:
        """Returns when nothing is asked of it any more, also by processes that are dead."""
        with self.ended:
            assert self.ended.wait_for(lambda: not self.under_way, timeout=30)

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path))
        fault = self.fault(method, path)
        if fault is None:
            return self.app(environ, start)
        status, code = fault
        if status == "break":  # announces more than it sends
            start("200 OK", [("Content-Length", "100000"), ("ETag", '"x"')])
            return [b"\x89PNG"]
        body = f"<Error><Code>{code}</Code><Message>{code} it is</Message></Error>".encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body if method != "HEAD" else b""]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    """The server, of which boto's usual variables tell, for the whole session."""
    server = Server()
    http = make_server("127.0.0.1", 0, server, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{http.server_port}",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            patch.setenv(name, value)
        patch.setattr("s3fs.S3FileSystem.retries", 1)
        patch.setattr(object_systems, "_systems", {})
        yield server
    http.shutdown()
    thread.join()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The server, as long as the test runs."""
    running.asked.clear()
    yield running
    running.fault = lambda method, path: None


@pytest.fixture
def bucket(server: Server, request: pytest.FixtureRequest) -> ObjectPath:
    """A bucket of the test's own."""
    name = f"b{abs(hash(request.node.nodeid))}"
    object_systems.system_of("s3").mkdir(name)
    return ObjectPath("s3:", name)
