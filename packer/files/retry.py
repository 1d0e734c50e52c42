"""Asking an object store again: which errors pass, how often and how long to try, and what may be said of them."""

from __future__ import annotations

import logging
import random
import re
import time
from typing import Any, Callable, Iterator, Mapping, TypeVar
from urllib.parse import unquote

from packer.errors import StoreError

Answer = TypeVar("Answer")

TRIES = 8
PATIENCE = 120.0
"""Seconds after which no further try begins, however few there were: clients wait and retry for themselves too."""
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0

_log = logging.getLogger(__name__)
_jitter = random.SystemRandom()  # not the run's own random numbers, and not the same ones in every forked worker
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    KeyError,  # what fsspec's memory looks a missing file up by
    TypeError,
    ImportError,
    RuntimeError,  # of the event loop: not of the network
)


_CLIENT = "BotoCoreError"
_PASSING = (
    "ConnectionError",
    "HTTPClientError",
    "IncompleteReadError",
    "ChecksumError",
    "CredentialRetrievalError",
    "MetadataRetrievalError",
)
"""Of botocore, which is not imported here: the base of what its client says without having got an answer, such as that
a profile is not known or a bucket cannot have that name; and those among them that may pass."""


class ShortAnswerError(ConnectionError):
    """A store sent fewer bytes than it was asked for."""


def retried(
    ask: Callable[[], Answer],
    request: str,
    hide: Callable[[str], str],
    final: Callable[[BaseException], bool] | None = None,
) -> Answer:
    """ask(), again while it fails as networks and servers do for a while: at most TRIES times, over PATIENCE seconds.

    Waits 0.1, 0.2, ... 10 seconds between tries, each shortened by a random share so that many processes do not come
    back at once. request: what was asked, for the error; hide: takes out of a text what must not be shown. Errors that
    pass not (missing, forbidden, not possible; final says it, `is_final` by default) are raised as they are, the last
    of others as StoreError.
    """
    start = time.monotonic()
    for number in range(TRIES):
        try:
            return ask()
        except Exception as error:
            if (final or is_final)(error):
                raise
            seconds = time.monotonic() - start
            if number + 1 == TRIES or seconds > PATIENCE:
                # The cause stays out of the traceback: its text is the client's and may hold what must not be shown.
                raise StoreError(
                    f"{request} failed {number + 1} times in {seconds:.0f} s, last with {cause(error, hide)}. "
                    "Check the network and the store, then run again"
                ) from None
            _log.info("%s failed, try %d of %d: %s", request, number + 1, TRIES, cause(error, hide))
        time.sleep(min(_LONGEST_WAIT, _FIRST_WAIT * 2**number) * _jitter.uniform(0.5, 1))
    raise AssertionError("the last try returns or raises")


def is_final(error: BaseException) -> bool:
    """Whether asking again is in vain. A client's error counts as what it was raised from, where it says so."""
    if isinstance(error, (ConnectionError, TimeoutError)):
        return False
    status = http_status(error)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 425, 429)
    if error.__cause__ is not None:
        return is_final(error.__cause__)
    return isinstance(error, _FINAL) or is_refusal(error)


def is_refusal(error: BaseException) -> bool:
    """Whether a client refuses to ask at all: credentials, profile, region or name of a bucket are no such things."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return _CLIENT in names and names.isdisjoint(_PASSING)


def error_code(error: BaseException | None) -> str:
    """What S3 calls the fault, such as NoSuchBucket; "" where it does not say."""
    response: Any = getattr(error, "response", None)
    about = response.get("Error") if isinstance(response, Mapping) else None
    code = about.get("Code") if isinstance(about, Mapping) else None
    return str(code or "") or ("" if error is None or error.__cause__ is None else error_code(error.__cause__))


def http_status(error: BaseException) -> int | None:
    """The status of the answer that a client's error stands for: botocore's, aiohttp's, gcsfs's."""
    response: Any = getattr(error, "response", None)
    about = response.get("ResponseMetadata") if isinstance(response, Mapping) else None
    status = about.get("HTTPStatusCode") if isinstance(about, Mapping) else None
    for name in ("status", "code"):  # in this order: aiohttp warns of its older name
        status = getattr(error, name, None) if status is None else status
    return status if isinstance(status, int) and 100 <= status < 600 else None


def cause(error: BaseException, hide: Callable[[str], str]) -> str:
    """One line that says what went wrong."""
    text = hide(" ".join(str(error).split()))[:300]  # cut last, or a piece of a secret could be left
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


_USER = re.compile(r"//[^/\s:@'\"]*:(?!\d+(?:/|$))[^\s'\"]*@|//(?:[^/@\s'\"]*@)+")
"""User and password, which may hold any letter, so that they end at the last @; a number behind the colon is that of a
port."""
_QUERY = re.compile(r"\?[^\s'\"]*")
_FRAGMENT = re.compile(r"(\bhttps?://[^\s'\"#]*)#[^\s'\"]*")
"""Which no server hears of, and which may hold a token; in the URLs of stores # is a letter like others."""


def redact(url: str) -> str:
    """A URL, or a text with URLs, without user names, passwords and signatures."""
    return _FRAGMENT.sub(r"\1", _QUERY.sub("", _USER.sub("//", url)))


def redactor(options: Mapping[str, Any], url: str = "") -> Callable[[str], str]:
    """A function that takes out of a text every text among the values of `options`, the user and password of a URL,
    and what `redact` takes out."""
    texts = {text for text in _texts(options) if "://" not in text} | _credentials(url)
    secrets = sorted(texts, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return redact(text)

    return hide


def _credentials(url: str) -> set[str]:
    """What a URL says before its host: whole, the password, the user with one, and what slashes cut these into; and the
    same decoded."""
    secrets: set[str] = set()
    for match in _USER.finditer(url):
        userinfo = match[0][2:-1]
        user, colon, password = userinfo.partition(":")
        secrets |= {userinfo, password, *([user] if colon else [])}
    for text in tuple(secrets):  # clients part a URL at its slashes, which a password may hold
        words = text.split("/")
        secrets |= {"/".join(words[:number]) for number in range(1, len(words))}
        secrets |= {"/".join(words[number:]) for number in range(1, len(words))}
    secrets |= {unquote(text) for text in secrets}
    return {text for text in secrets if len(text) > 2}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) > 2:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
