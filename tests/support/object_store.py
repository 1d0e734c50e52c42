"""Real servers on loopback, for S3 and GCS, and a proxy before them that fails a share of requests as networks do."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

KEY, SECRET = "test-key-of-nobody", "test-secret-of-nobody"
_NOT_FORWARDED = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The URL of a moto server in a process of its own; the test is skipped where it is not installed."""
    _skip_without("moto", "flask", "s3fs")
    port = _free_port()
    with _served(["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gcs_server(log: Path) -> Iterator[str]:
    """The same of a GCS emulator. It takes no notice of conditions (ifGenerationMatch)."""
    _skip_without("gcp_storage_emulator", "gcsfs")
    port = _free_port()
    code = "import sys; from gcp_storage_emulator.__main__ import main; main(sys.argv[1:])"
    with _served(["-c", code, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"], port, log):
        yield f"http://127.0.0.1:{port}"


def gcs_options(endpoint: str) -> dict[str, Any]:
    """storage_options for gcsfs."""
    return {"endpoint_url": endpoint, "token": "anon", "project": "nobody"}


def _skip_without(*packages: str) -> None:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (the test extra has what the server needs)")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def _served(arguments: list[str], port: int, log: Path) -> Iterator[None]:
    """A Python process that listens at `port`, for as long as the context lasts."""
    environment = {**os.environ, "MOTO_S3_CUSTOM_ENDPOINTS": "", "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        end = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def s3_options(endpoint: str, own_retries: bool = True, **more: Any) -> dict[str, Any]:
    """storage_options for s3fs. own_retries=False: the client gives up at the first fault, ours have to do."""
    config: dict[str, Any] = {} if own_retries else {"retries": {"max_attempts": 0}}
    return {
        "key": KEY,
        "secret": SECRET,
        "client_kwargs": {"endpoint_url": endpoint},
        "config_kwargs": {**config, **more},
    }


def s3_environment(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """What commands find in the environment; clients that found another one there are forgotten."""
    import s3fs

    values = {
        "ACCESS_KEY_ID": KEY,
        "SECRET_ACCESS_KEY": SECRET,
        "ENDPOINT_URL": endpoint,
        "DEFAULT_REGION": "us-east-1",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()


def make_bucket(endpoint: str, name: str) -> None:
    import s3fs

    s3fs.S3FileSystem(**s3_options(endpoint)).makedirs(name, exist_ok=True)


def upload(folder: Path, url: str, options: dict[str, Any]) -> None:
    """Put the files of a folder under a URL, the manifest last."""
    import fsspec

    fs, root = fsspec.core.url_to_fs(url, **options)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "manifest.json"):
        fs.pipe_file(f"{root}/{path.name}", path.read_bytes())


def objects(endpoint: str, url: str) -> dict[str, str]:
    """Every object below a URL of S3, with its hash."""
    import s3fs

    fs = s3fs.S3FileSystem(**s3_options(endpoint), use_listings_cache=False)
    root = url.removeprefix("s3://")
    return {str(n)[len(root) + 1 :]: hashlib.sha256(fs.cat_file(str(n))).hexdigest() for n in fs.find(root)}


class FaultProxy:
    """An HTTP server that forwards to `target` and lets a share of the requests fail.

    kinds of fault, one of which is drawn for a request that `only(method, path)` lets fail: a number such as "500" is
    answered without asking the target; "reset" breaks the connection before the target hears of the request, "lost"
    after it has done what was asked; "truncate" stops in the middle of the body; "slow" waits `delay` seconds;
    "corrupt" changes a bit of the body. Attributes may be changed while it runs. `requests` counts what was asked by
    method, `faults` what failed by kind; `log` has (method, path, range, kind or "").
    """

    def __init__(
        self,
        target: str,
        share: float = 0.0,
        kinds: tuple[str, ...] = ("500", "reset", "truncate", "slow"),
        only: Callable[[str, str], bool] = lambda method, path: True,
        delay: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.target = urlsplit(target)
        self.share, self.kinds, self.only, self.delay = share, kinds, only, delay
        self.requests: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.log: list[tuple[str, str, str, str]] = []
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def draw(self, method: str, path: str, ranged: str) -> str:
        """The fault that a request meets, "" for none."""
        with self._lock:
            fails = self.only(method, path) and self._random.random() < self.share
            kind = self._random.choice(self.kinds) if fails else ""
            self.requests[method] += 1
            if kind:
                self.faults[kind] += 1
            self.log.append((method, path, ranged, kind))
            return kind

    def bit(self, size: int) -> int:
        with self._lock:
            return self._random.randrange(8 * size)

    def __enter__(self) -> FaultProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client may leave, and some of our own faults break the connection
            super().handle()

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        kind = self.proxy.draw(self.command, self.path, self.headers.get("Range", ""))
        if kind.isdigit():
            return self._answer_fault(int(kind))
        if kind == "reset":
            return self._reset()
        if kind == "slow":
            time.sleep(self.proxy.delay)
        status, headers, answer = self._asked(body)
        if kind == "lost":
            return self._reset()
        if kind == "corrupt" and answer:
            bit = self.proxy.bit(len(answer))
            answer[bit // 8] ^= 1 << bit % 8
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if kind == "truncate":
            self.wfile.write(answer[: len(answer) // 2])
            return self._reset()
        self.wfile.write(answer)
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytearray]:
        target = self.proxy.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_FORWARDED}
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        connection.request(self.command, self.path, body or None, headers)
        found = connection.getresponse()
        answer = bytearray(found.read())
        connection.close()
        kept = [(n, v) for n, v in found.getheaders() if n.lower() not in _NOT_FORWARDED]
        kept += [(n, v) for n, v in found.getheaders() if n.lower() == "content-length" and self.command == "HEAD"]
        return found.status, kept, answer

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _answer_fault(self, status: int) -> None:
        code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "InternalError")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>a fault that the test made</Message></Error>"
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(0 if self.command == "HEAD" else len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def _reset(self) -> None:
        """End the connection with a reset packet rather than in order."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()
