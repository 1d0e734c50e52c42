"""A server over HTTP whose answers are not what was asked for."""

from __future__ import annotations

import contextlib
import gzip
import io
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = bytes(1 << 20)


@lru_cache(maxsize=1)
def _bomb() -> bytes:
    """A MiB that gzip makes a GiB of."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1) as file:
        for _ in range(256):
            file.write(_PIECE)
    return sink.getvalue()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is told."""

    def do_HEAD(self) -> None:
        self._head(200, Content_Length="1000", Accept_Ranges="bytes")

    def do_GET(self) -> None:
        mode = self.path.split("/")[1]
        with contextlib.suppress(OSError):
            if mode in ("all", "listing"):
                self._head(200, Content_Length=str(6 << 30))
                for _ in range(6 << 10):
                    self.wfile.write(_PIECE)
            elif mode == "chunked":
                self._head(206, Transfer_Encoding="chunked")
                for _ in range(6 << 10):
                    self.wfile.write(b"100000\r\n" + _PIECE + b"\r\n")
            elif mode == "gzip":
                self._head(206, Content_Encoding="gzip", Content_Length=str(len(_bomb())))
                self.wfile.write(_bomb())
            elif mode == "longer":
                self._head(206, Content_Length="1001")
                self.wfile.write(bytes(1001))

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


def read(mode: str) -> object:
    """A data set's manifest, or the names in its folder, from such a server."""
    from packer.files.open import place_of
    from packer.shards.manifest import read_manifest_bytes

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/{mode}"
    try:
        return place_of(url).names() if mode == "listing" else read_manifest_bytes(url)
    finally:
        server.shutdown()
        server.server_close()
