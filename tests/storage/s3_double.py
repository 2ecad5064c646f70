"""An object store on loopback (moto), with an unreliable line before it.

What the line does to a share of the requests: it turns them away (503, or 409 for puts), drops them, or lets
them through and then drops the answer, reports an error instead, or keeps the client waiting for too long.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any
from unittest import mock

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from backtest_farm.storage import s3

BUCKET = "studies"
TIMEOUT_S = 0.3
KINDS = {"503": 4, "409": 3, "drop": 4, "drop after": 5, "500 after": 5, "too late": 1}
"""What may happen, and how often compared with the others."""


class Quiet(WSGIRequestHandler):
    """Keeps connections open, and says nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass

    def run_wsgi(self) -> None:
        with contextlib.suppress(ConnectionError, ValueError):
            super().run_wsgi()


class Line:
    """The way to the store.

    Attributes
    ----------
    share : float
        Part of the requests that something happens to.
    ignores_conditions : bool
        Whether puts lose their condition on the way.
    happened : Counter
        What happened how often.
    headers : list of dict
        Of all puts.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.share, self.ignores_conditions, self.rng = 0.0, False, Random(0)
        self.happened: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        with self._lock:
            put = environ["REQUEST_METHOD"] == "PUT"
            if put:
                self.headers.append({key: value for key, value in environ.items() if key.startswith("HTTP_")})
                if self.ignores_conditions:
                    environ.pop("HTTP_IF_NONE_MATCH", None)
            kind = (
                self.rng.choices([*KINDS], [*KINDS.values()])[0] if self.rng.random() < self.share else "well"
            )
            if kind == "409" and not put:
                kind = "503"
            self.happened[kind] += 1
            answer: list[Any] = []
            body = b""
            if "after" in kind or kind in ("well", "too late"):
                body = b"".join(self.app(environ, lambda *given: answer.extend(given)))
        if kind == "too late":
            time.sleep(2 * TIMEOUT_S)
        if kind.startswith("drop") or kind == "too late":
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionResetError
        if kind != "well":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start(f"{kind[:3]} not now", [("Content-Length", "0")])
            return []
        start(*answer[:2])
        return [body]


@contextlib.contextmanager
def running() -> Iterator[Line]:
    """Serve an empty bucket, with the variables set that lead there."""
    line = Line(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, line, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.port}",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "very/secret+key",
        "AWS_REGION": "us-east-1",
    }
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    try:
        with mock.patch.dict(os.environ, {**clean, **settings}, clear=True):
            client = boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1")
            # What other tests left in this process.
            for bucket in client.list_buckets()["Buckets"]:
                for one in client.list_objects_v2(Bucket=bucket["Name"]).get("Contents", ()):
                    client.delete_object(Bucket=bucket["Name"], Key=one["Key"])
                client.delete_bucket(Bucket=bucket["Name"])
            client.create_bucket(Bucket=BUCKET)
            client.close()
            line.headers.clear()
            yield line
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def unreliable(line: Line, seed: int, share: float = 0.2) -> Iterator[None]:
    """Let something happen to a share of the requests, and nobody wait long."""
    line.rng, line.share = Random(seed), share
    changes: dict[str, Any] = {"_WAITS_S": (0.001,) * 12, "_TIMEOUT": f"{int(TIMEOUT_S * 1000)}ms"}
    s3._connected.cache_clear()
    try:
        with mock.patch.multiple(s3, **changes):
            yield
    finally:
        line.share = 0.0
        s3._connected.cache_clear()
