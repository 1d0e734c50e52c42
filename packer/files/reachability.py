"""Whether anything answers where a store is said to be: a mistyped address is told in seconds, without all retries."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any, Tuple
from urllib.parse import urlsplit

from packer.files.retry import http_status

Address = Tuple[str, int]

PATIENCE = 3.0
"""Seconds in which an address is found to answer or not; and for a client to show that it gets through all the same."""
_TRIES, _PAUSE, _TIMEOUT = 3, 0.5, 2.0
_PORTS = {"http": 80, "https": 443}

REMEDY = (
    "Check the address (in the URL, in storage_options or in the environment, such as AWS_ENDPOINT_URL) and that the "
    "store is running, then run again"
)


def address_of(fs: Any, url: str) -> Address | None:
    """Host and port that a file system's client connects to first; None where it does not say."""
    try:
        if hasattr(fs, "set_session") and hasattr(fs, "s3"):  # s3fs: only its client knows all places of its settings
            fs.connect(timeout=10 * PATIENCE)
            endpoint = fs.s3.meta.endpoint_url
        else:  # gcsfs; or plain HTTP
            endpoint = getattr(fs, "base", None) or url.rpartition("::")[2]
        parts = urlsplit(endpoint)
        port = parts.port or _PORTS.get(parts.scheme)
    except Exception:  # whatever is wrong, the first request will say it better
        return None
    return (parts.hostname, port) if parts.hostname and port else None


def refusal(address: Address) -> str | None:
    """Why nothing answers there, tried for a second; None where something does, or where that cannot be told."""
    answers: list[str | None] = []
    # In a thread, for nothing interrupts the look-up of a name.
    thread = threading.Thread(target=lambda: answers.append(_refusal(address)), name="reach", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answers[0] if answers else None


def _refusal(address: Address) -> str | None:
    why = None
    for number in range(_TRIES):
        if number:
            time.sleep(_PAUSE)
        try:
            socket.create_connection(address, timeout=_TIMEOUT).close()
            return None
        except ConnectionRefusedError:
            why = f"nothing listens at {address[0]}:{address[1]} (connection refused)"
        except socket.gaierror as error:
            why = f"the host {address[0]} is not known ({error.strerror or error})"
        except OSError:
            return None
    return why


def is_unreachable(error: BaseException) -> bool:
    """Whether a client's error says that it found nobody to talk to: a refused connection, a name without a host."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen and http_status(cause) is None:
        if isinstance(cause, (ConnectionRefusedError, socket.gaierror)):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False
