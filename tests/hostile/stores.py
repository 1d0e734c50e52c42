"""A server over HTTP whose answers are not what was asked for."""

from __future__ import annotations

import contextlib
import gzip
import io
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from packer.files.answers import bounded_options

_PIECE = bytes(1 << 20)
_PAGES = {
    "tags without an end": b"<a " * 200_000,
    "spaces in a tag": b"<a" + b" \t\n" * 20_000 + b">",
    "a name without an end": b"<a href='shard-00000.parquet'>" + b"<a href='x" * 200_000,
}
"""What takes the square or the cube of its length to be looked through by a pattern for links."""
NAMES = ("listing", *_PAGES)
"""Answers to what asks for names."""
_S3 = ["s3"] if bounded_options("s3", {}).get("config_kwargs") else []
MODES = ("all", "chunked", "gzip", "longer", *NAMES, *_S3)
"""Older versions of S3's client cannot be bounded."""


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
        mode = unquote(self.path.split("/")[1])
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
            elif mode in _PAGES:
                self._head(200, Content_Type="text/html", Content_Length=str(len(_PAGES[mode])))
                self.wfile.write(_PAGES[mode])
            elif mode == "s3":
                self._head(403, Content_Type="application/xml", Content_Length=str(6 << 30))
                for _ in range(6 << 10):
                    self.wfile.write(_PIECE)

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
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        if mode == "s3":
            return read_manifest_bytes(
                place_of("s3://s3/packs", {"key": "a", "secret": "b", "client_kwargs": {"endpoint_url": url}})
            )
        place = place_of(f"{url}/{mode.replace(' ', '%20')}")
        return place.names() if mode in NAMES else read_manifest_bytes(place)
    finally:
        server.shutdown()
        server.server_close()
