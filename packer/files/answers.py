"""Answers of object stores in bounded memory: what is not the bytes that were asked for is let go of before it is held.

fsspec's clients read a whole answer and then look at it; a server that does not know ranges, or does not wish to, then
fills the memory. Here an answer is read a piece at a time and at most one byte over what was asked.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from packer.files.retry import ShortAnswerError

MAX_ANSWER_BYTES = 64 << 20
"""Of an answer to what asks for no range: a listing, an error."""
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def bounded_options(protocol: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """storage_options under which a client reads bounded answers; as they are where it cannot be told to.

    S3's client cannot: for it there is `cat_ranges`.
    """
    found = dict(options)
    name = {"http": "client_kwargs", "https": "client_kwargs", "gs": "session_kwargs", "gcs": "session_kwargs"}
    if protocol in name:
        found[name[protocol]] = {"response_class": _bounded_response(), **(found.get(name[protocol]) or {})}
    return found


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
    found = bytearray()
    while len(found) <= most:
        try:
            piece = await read(min(_PIECE, most + 1 - len(found)))
        except Exception as error:  # a connection that ends early looks like a fault of the request
            raise ShortAnswerError(f"the answer ended after {len(found)} of {most} bytes: {error}") from None
        if not piece:
            return bytes(found)
        found += piece
    raise _too_long(len(found), most)


def _too_long(size: int, most: int) -> ValueError:
    return ValueError(f"the server sends {size} bytes or more where {most} were asked for: it does not answer ranges")


_class: list[type] = []


def _bounded_response() -> type:
    """aiohttp's answers, read no further than the range that the request asked for."""
    if _class:
        return _class[0]
    from aiohttp import ClientResponse

    class BoundedResponse(ClientResponse):
        async def read(self) -> bytes:
            if self._body is None:
                wanted = _RANGE.fullmatch(self.request_info.headers.get("Range", ""))
                most = int(wanted[2]) - int(wanted[1]) + 1 if wanted and self.status < 400 else MAX_ANSWER_BYTES
                coded = self.headers.get("Content-Encoding", "identity")
                try:
                    if wanted and self.status < 400 and coded != "identity":
                        raise ValueError(f"the server sends {coded} where bytes of a file were asked for")
                    self._body = await _read(self.content.read, most, self.content_length)
                except BaseException:
                    self.close()
                    raise
            return await super().read()

    _class.append(BoundedResponse)
    return BoundedResponse
