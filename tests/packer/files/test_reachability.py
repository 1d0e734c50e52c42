"""An address where nothing answers is told in seconds; a store that has answered before is worth patience."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flaky_store
import pytest
from aiohttp import ClientConnectorError, ClientResponseError, RequestInfo
from flaky_store import FlakyFileSystem
from object_store import FaultProxy, make_bucket, s3_environment, s3_options, upload
from small_packs import write_packs

from packer.errors import MissingFileError, StoreError
from packer.files import reachability
from packer.files.remote import RemotePlace
from packer.files.retry import TRIES
from packer.reading import PackDataset
from pipelines.entry import main

MOST = 60.0
"""Seconds, of which an idle machine takes four; with all retries it would be more than these."""


@pytest.fixture
def nowhere() -> str:
    """A URL at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packer.files.retry._LONGEST_WAIT", 0.01)
    monkeypatch.setattr(FlakyFileSystem, "spoil", None)


@pytest.mark.parametrize("store", ["s3", "http"])
@pytest.mark.parametrize("fault", ["refused", "unknown"])
def test_where_nothing_answers(store: str, fault: str, nowhere: str) -> None:
    address = nowhere if fault == "refused" else "http://no-such-host.invalid:81"
    url, options = ("s3://b/packs", s3_options(address)) if store == "s3" else (f"{address}/packs", None)
    host = address.removeprefix("http://")
    why = (
        rf"nothing listens at {host} \(connection refused\)"
        if fault == "refused"
        else r"the host no-such-host.invalid is not known \(.+\)"
    )
    begin = time.monotonic()
    with pytest.raises(
        StoreError, match=rf"^{url}/manifest.json: asking for its size is not possible: {why}. Check the address \(in"
    ) as told:
        PackDataset(url, storage_options=options)
    assert time.monotonic() - begin < MOST and "that the store is running, then run again" in str(told.value)


@pytest.mark.parametrize(
    "arguments",
    [["verify", "s3://b/packs"], ["train", "s3://b/packs"], ["scan", "smiles:s3://b/m.csv"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_where_nothing_answers(
    nowhere: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    s3_environment(monkeypatch, nowhere)
    begin = time.monotonic()
    assert main(arguments) == 1
    assert time.monotonic() - begin < MOST
    assert f"nothing listens at {nowhere[7:]} (connection refused). Check the address" in capfd.readouterr().err


def test_a_store_that_has_answered_is_worth_patience(
    s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_packs(tmp_path / "packs", 46, 3, 12)
    make_bucket(s3_endpoint, "reach")
    upload(tmp_path / "packs", "s3://reach/packs", s3_options(s3_endpoint))
    with FaultProxy(s3_endpoint) as proxy:
        dataset = PackDataset(
            "s3://reach/packs", storage_options=s3_options(proxy.url, own_retries=False), cache_bytes=0
        )
    proxy.share, proxy.kinds = 1.0, ("reset",)  # of the connection that is open; no other can be made any more
    copy = pickle.loads(pickle.dumps(dataset))  # as a worker gets it
    monkeypatch.setattr(reachability, "refusal", lambda address: pytest.fail("it need not be asked again"))
    for one in (dataset, copy):
        with pytest.raises(StoreError, match=rf"failed {TRIES} times in .*Could not connect to the endpoint"):
            one[0]


def test_an_address_that_refuses_a_client_that_gets_through(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As through a proxy, or where only names below the endpoint's are known."""
    write_packs(tmp_path / "packs", 46, 3, 12)
    flaky_store.put(tmp_path / "packs", "flaky://reach/packs")
    monkeypatch.setattr(FlakyFileSystem, "base", f"{nowhere}/storage/v1/", raising=False)
    assert reachability.address_of(FlakyFileSystem(), "flaky://reach") == ("127.0.0.1", int(nowhere.rpartition(":")[2]))
    assert len(PackDataset("flaky://reach/packs")) == 46
    with pytest.raises(MissingFileError):
        PackDataset("flaky://reach/none")


def refuse(path: str, data: bytes) -> bytes:
    raise FileNotFoundError(path) from ConnectionRefusedError(111, "Connection refused")  # as fsspec's HTTP says it


def test_a_client_that_does_not_tell_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own error has to do, and is enough as long as nothing has been answered."""
    FlakyFileSystem().pipe_file("flaky://silent/file", b"0123")
    asked: list[str] = []
    monkeypatch.setattr(FlakyFileSystem, "info", lambda self, path, **_: asked.append(path) or refuse(path, b""))
    place = RemotePlace("flaky://silent")
    with pytest.raises(StoreError, match=r"is not possible: FileNotFoundError: .*/file. Check the address \(in"):
        place.open("file")
    assert len(asked) == 1
    monkeypatch.undo()
    monkeypatch.setattr("packer.files.retry.time.sleep", lambda seconds: None)
    file = place.open("file")
    monkeypatch.setattr(FlakyFileSystem, "spoil", staticmethod(refuse))
    with pytest.raises(StoreError, match=f"failed {TRIES} times"):
        file.read(0, 4)


@pytest.fixture
def late(nowhere: str) -> Iterator[str]:
    """The URL of a server that begins to listen a little later."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def begin() -> None:
        time.sleep(0.3)
        server.bind(("127.0.0.1", int(nowhere.rpartition(":")[2])))
        server.listen()

    thread = threading.Thread(target=begin)
    thread.start()
    yield nowhere
    thread.join()
    server.close()


def test_a_server_that_is_just_starting(late: str) -> None:
    assert reachability.refusal(("127.0.0.1", int(late.rpartition(":")[2]))) is None


def test_a_name_that_is_looked_up_for_long_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reachability, "PATIENCE", 0.1)
    release = threading.Event()
    monkeypatch.setattr(reachability, "_refusal", lambda address: release.wait(60) and "late")
    assert reachability.refusal(("slow.host", 80)) is None
    release.set()


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def answered(status: int) -> Exception:
    about: Any = RequestInfo("http://host/x", "GET", {}, "http://host/x")  # type: ignore[arg-type]
    return ClientResponseError(about, (), status=status)


REFUSED = ConnectionRefusedError(111, "Connection refused")
UNKNOWN = socket.gaierror(-2, "Name or service not known")


@pytest.mark.parametrize(
    ("error", "unreachable"),
    [
        (REFUSED, True),
        (UNKNOWN, True),
        (caused(FileNotFoundError("x"), REFUSED), True),
        (caused(OSError("x"), caused(RuntimeError("y"), UNKNOWN)), True),
        (ConnectionResetError("x"), False),
        (TimeoutError("x"), False),
        (FileNotFoundError("x"), False),
        (caused(OSError("x"), answered(503)), False),
        # The store answered; that something else refused on the way is another matter.
        (caused(answered(403), REFUSED), False),
    ],
    ids=repr,
)
def test_which_errors_say_that_nobody_is_there(error: Exception, unreachable: bool) -> None:
    assert reachability.is_unreachable(error) == unreachable
    assert not reachability.is_unreachable(caused(error, error)) or unreachable, "a ring of causes has an end"


def test_real_clients_errors_are_known(nowhere: str) -> None:
    import fsspec

    fs = fsspec.filesystem("http")
    with pytest.raises(FileNotFoundError) as told:
        fs.info(f"{nowhere}/x")
    assert reachability.is_unreachable(told.value) and isinstance(told.value.__cause__, ClientConnectorError)
