"""The server of the page, and those who connect without a request."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from time import sleep

import pytest

from aegis_otel.cli.approvals.page import server
from aegis_otel.cli.approvals.page.static_files import FILES, StaticFile
from tests.support.approvals_page import Visitor, make_desk, serving
from tests.support.pages import ROOT

HEAD = b"GET / HTTP/1.1\r\nhost: "
BODY = b"POST /sign-out HTTP/1.1\r\nhost: %s\r\ncontent-length: 9\r\n\r\nx"
CLOSE = b"connection: close\r\n"


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 20)
    with serving(make_desk(tmp_path / "audit")) as port:
        yield port


def connect(port: int, said: bytes) -> socket.socket:
    found = socket.create_connection(("127.0.0.1", port), timeout=15)
    found.sendall(said)
    return found


def is_ended(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("said", [b"", HEAD], ids=["nothing", "half a head"])
def test_who_says_nothing_keeps_nobody_out(port: int, said: bytes) -> None:
    """The oldest connections without a request go; the page answers at once."""
    with ExitStack() as silent:
        held = [silent.enter_context(connect(port, said)) for _ in range(60)]
        for _ in range(3):
            assert Visitor(port, "bob").get("/").status == 200
        assert all(is_ended(each) for each in held[:40])


@pytest.mark.parametrize("said", [b"", HEAD, BODY], ids=["nothing", "half a head", "half a body"])
def test_a_request_that_takes_too_long(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "WAIT_S", 0.3)
    with serving(make_desk(tmp_path / "audit")) as port:
        text = said.replace(b"%s", b"127.0.0.1:%d" % port)
        with connect(port, text) as slow, connect(port, text) as dripping:
            if said:
                for byte in b"ab":
                    dripping.send(bytes([byte]))
            assert is_ended(slow)
            assert is_ended(dripping)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> int:
    """Make a response so long that few of them fit into all buffers on the way. Its length."""
    monkeypatch.setitem(FILES, "long.js", StaticFile(b"x" * 500_000, "text/javascript"))
    return 500_000


def ask(port: int, times: int, more: bytes = b"", buffer: int = 4_096) -> socket.socket:
    """Connect, and ask for a long response, but take nothing of it yet."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    found.settimeout(15)
    found.connect(("127.0.0.1", port))
    found.sendall((b"GET /static/long.js HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n%s\r\n" % (port, more)) * times)
    return found


@pytest.mark.usefixtures("long")
def test_who_takes_no_response_keeps_nobody_out(port: int) -> None:
    with ExitStack() as deaf:
        held = [deaf.enter_context(ask(port, 20)) for _ in range(20)]
        sleep(1)
        held += [deaf.enter_context(ask(port, 20)) for _ in range(10)]
        for _ in range(3):
            assert Visitor(port, "bob").get("/").status == 200
        assert is_ended(held[0])


@pytest.mark.parametrize(
    ("times", "more"), [(20, b""), (1, CLOSE)], ids=["requests follow", "it is the last"]
)
def test_a_response_that_nobody_takes(
    times: int, more: bytes, long: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "WAIT_S", 0.5)
    with serving(make_desk(tmp_path / "audit")) as port, closing(ask(port, times, more)) as deaf:
        sleep(2)
        taken = 0
        with suppress(ConnectionResetError):
            while found := deaf.recv(1 << 16):
                taken += len(found)
        assert 0 < taken < times * long


def test_a_response_that_is_taken_slowly(long: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than the time in which some of it has to be taken."""
    monkeypatch.setattr(server, "WAIT_S", 0.5)
    with serving(make_desk(tmp_path / "audit")) as port, closing(ask(port, 1, CLOSE, 65_536)) as slow:
        text = b""
        while found := slow.recv(20_000):
            text += found
            sleep(0.06)
    assert text.endswith(b"x" * long)


def test_a_connection_is_used_again(port: int) -> None:
    """Of two requests on one connection, each has its own time."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=15)) as connection:
        for _ in range(2):
            connection.request("GET", "/")
            with connection.getresponse() as answer:
                assert answer.status == 401
                assert answer.read()


@pytest.mark.parametrize(("files", "connections"), [("300", 75), ("1024", 768), ("9000", 2000)])
def test_as_many_connections_as_there_is_room_for(files: str, connections: int) -> None:
    """A soft limit of 200 files is raised as far as the hard one allows."""
    program = "from aegis_otel.cli.approvals.page.server import room_for_connections as room; print(room())"
    ran = subprocess.run(
        ["bash", "-c", f'ulimit -Sn 200; ulimit -Hn {files}; exec "$@"', "-", sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(ran.stdout) == connections
