"""Answers of object stores in bounded memory: what is not the bytes that were asked for is let go of before it is held.

fsspec's clients read a whole answer and then look at it; a server that does not know ranges, or does not wish to, then
fills the memory. Here an answer is read a piece at a time and at most one byte over what was asked.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Mapping, Sequence

from packer.files.retry import ShortAnswerError

MAX_ANSWER_BYTES = 8 << 20
"""Of an answer to what asks for no range, such as a listing: of S3's 1,000 names at a time, or of a folder's page."""
_MAX_ERROR_BYTES = 64 << 10
"""Of an answer that refuses what was asked: its status tells enough, and the rest is cut."""
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_SPACE = re.compile(r"\s+")
_NO_TAG = re.compile(r"<(?!a [^<>]*>)", re.IGNORECASE)


def bounded_options(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """storage_options under which a client reads bounded answers; as they are where it cannot be told to.

    What S3's client is asked for in ranges it does not hold itself: for that there is `cat_ranges`.
    """
    bounded = dict(options)
    name = {"http": "client_kwargs", "https": "client_kwargs", "gs": "session_kwargs", "gcs": "session_kwargs"}
    if protocol in name:
        bounded[name[protocol]] = {"response_class": _bounded_response(), **(bounded.get(name[protocol]) or {})}
    elif protocol in ("s3", "s3a"):
        bounded["config_kwargs"] = {**_bounded_sessions(), **(bounded.get("config_kwargs") or {})}
    return bounded


def cat_ranges(fs: Any, path: str, starts: Sequence[int], ends: Sequence[int], **patience: float) -> list[Any]:
    """The bytes [start, end) of a file for each pair, asked for at once; an exception where one fails."""
    if not (hasattr(fs, "_call_s3") and fs.async_impl):
        return fs.cat_ranges([path] * len(starts), list(starts), list(ends), on_error="return", **patience)
    import asyncio

    from fsspec.asyn import sync

    async def every() -> list[Any]:
        asked = (_s3_range(fs, path, start, end) for start, end in zip(starts, ends))
        return await asyncio.gather(*asked, return_exceptions=True)

    found: Any = sync(fs.loop, every, **patience)
    return found


async def _s3_range(fs: Any, path: str, start: int, end: int) -> bytes:
    if start >= end:
        return b""
    bucket, key, version = fs.split_path(path)
    more = {"VersionId": version} if version else {}
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **more)
    body = answer["Body"]
    try:
        return await _read(body.read, end - start, answer.get("ContentLength"))
    finally:
        body.close()


async def _read(read: Any, most: int, stated: Any) -> bytes:
    if isinstance(stated, int) and stated > most:
        raise _too_long(stated, most)
    body = bytearray()
    while len(body) <= most:
        try:
            piece = await read(min(_PIECE, most + 1 - len(body)))
        except Exception as error:  # a connection that ends early looks like a fault of the request
            raise ShortAnswerError(f"the answer ended after {len(body)} of {most} bytes: {error}") from None
        if not piece:
            return bytes(body)
        body += piece
    raise _too_long(len(body), most)


def _too_long(size: int, most: int) -> ValueError:
    return ValueError(f"the server sends {size} bytes or more where {most} were asked for: it does not answer ranges")


_class: list[type] = []
_session: list[type] = []


def _bounded_response() -> type:
    """aiohttp's answers, read no further than the range that the request asked for."""
    if _class:
        return _class[0]
    from aiohttp import ClientResponse

    class BoundedResponse(ClientResponse):
        async def read(self) -> bytes:
            if self.status >= 300:
                return await self._begin()
            if self._body is not None or self.method == "HEAD":  # which states a length and has no body
                return await super().read()
            try:
                wanted = _RANGE.fullmatch(self.request_info.headers.get("Range", ""))
                most = int(wanted[2]) - int(wanted[1]) + 1 if wanted else MAX_ANSWER_BYTES
                coded = self.headers.get("Content-Encoding", "identity")
                if wanted and coded != "identity":
                    raise ValueError(f"the server sends {coded} where bytes of a file were asked for")
                self._body = await _read(self.content.read, most, self.content_length)
            except BaseException:
                self.close()
                raise
            return await super().read()

        async def _begin(self) -> bytes:
            """The body of what is no success, or as much of it as is read."""
            if self._body is None:
                body = bytearray()
                try:
                    while len(body) < _MAX_ERROR_BYTES:
                        piece = await self.content.read(_MAX_ERROR_BYTES - len(body))
                        if not piece:
                            break
                        body += piece
                finally:
                    self.release() if self.content.at_eof() else self.close()
                self._body = bytes(body)
            return self._body

        async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
            return linear(await super().text(encoding, errors))

    _class.append(BoundedResponse)
    return BoundedResponse


def linear(page: str) -> str:
    """A page of links without what makes the pattern for links of fsspec look at it again and again: its time grows
    with the square of what follows a tag without an end, and with the cube of spaces in a tag."""
    return _NO_TAG.sub(" ", _SPACE.sub(" ", page))


def _bounded_sessions() -> dict[str, Any]:
    """The setting by which S3's client reads such answers; nothing where it is of a version that has none."""
    import aiobotocore.config
    import aiobotocore.httpsession

    if "http_session_cls" not in inspect.signature(aiobotocore.config.AioConfig.__init__).parameters:
        return {}
    if not _session:

        class BoundedSession(aiobotocore.httpsession.AIOHTTPSession):
            async def _get_session(self, proxy_url: Any) -> Any:
                session = await super()._get_session(proxy_url)
                setattr(session, "_response_class", _bounded_response())  # noqa: B010 - its constructor is not ours
                return session

        _session.append(BoundedSession)
    return {"http_session_cls": _session[0]}
