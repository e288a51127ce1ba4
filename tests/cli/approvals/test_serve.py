"""`aegis approvals serve`: its options, and what it prints."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from aegis_otel.cli import main
from aegis_otel.runtime.approval.answer_desk import AnswerDesk
from tests.support.approvals_commands import environment
from tests.support.approvals_page import put
from tests.support.receiver import receiving


def get(url: str, cookie: str = "", method: str = "GET") -> tuple[int, str, str]:
    """The status, the cookie and the text at a URL; redirects are not followed."""
    parts = urlsplit(url)
    with closing(HTTPConnection(parts.netloc, timeout=30)) as connection:
        connection.request(method, parts.path, headers={"cookie": cookie})
        with connection.getresponse() as answer:
            return answer.status, answer.headers.get("set-cookie", ""), answer.read().decode()


def test_serve_prints_a_link_that_works_once_and_ends_by_a_signal(desk: AnswerDesk, tmp_path: Path) -> None:
    put(desk, params="order 7")
    command = [sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", "0"]
    child = subprocess.Popen(
        [*command, "--path", str(tmp_path / "audit")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert child.stdout is not None
    try:
        origin = child.stdout.readline().removeprefix("The page is at ").removesuffix(". Ctrl-C ends it.\n")
        assert child.stdout.readline().startswith(
            f"Questions come from {tmp_path}/audit/state.sqlite3; answers"
        )
        found = re.match(r"Open (http://127\.0\.0\.1:\d+/sign-in/link/\S{43})$", child.stdout.readline())
        assert found is not None
        link = found[1]
        assert link.startswith(f"{origin}/")
        assert get(f"{origin}/")[0] == 401
        assert get(link, method="HEAD")[:2] == (405, ""), "a program that checks links uses none"
        status, cookie, _ = get(link)
        assert status == 303
        assert "HttpOnly" in cookie
        assert "order 7" in get(f"{origin}/", cookie.partition(";")[0])[2]
        assert get(link)[0] == 403, "it was used"
        assert get(f"{link[:-1]}x")[0] == 403
        assert child.stdout.readline().startswith("The link works once")
        assert re.match(rf"Open {origin}/sign-in/link/\S{{43}}$", child.stdout.readline()), "a new one"
    finally:
        child.send_signal(2)
        _, errors = child.communicate(timeout=20)
    assert child.returncode == 0
    assert [line.partition("WARNING ")[2][:60] for line in errors.splitlines()] == [
        "refused at the page of approvals: the link is none of this pa"[:60]
    ] * 2


def test_serve_exports_what_waits(desk: AnswerDesk, tmp_path: Path) -> None:
    """Though no agent is left, so the questions of saved runs are measured as well."""
    put(desk)
    command = [sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", "0"]
    with receiving() as received:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": "200"}
        child = subprocess.Popen(
            [*command, "--path", str(tmp_path / "audit")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | variables | {"OTEL_SERVICE_NAME": "approvals"},
        )
        try:
            until = time.monotonic() + 60
            while "aegis.inbox.waiting" not in received.metrics():
                assert time.monotonic() < until, "nothing was exported"
                time.sleep(0.05)
        finally:
            child.send_signal(2)
            _, errors = child.communicate(timeout=20)
        (point,) = received.metrics()["aegis.inbox.waiting"].gauge.data_points
        assert (child.returncode, errors, point.as_int) == (0, "", 1)
        assert received.services() == {"approvals"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--url", "http://approvals.example.com"], "is not encrypted"),
        (["--url", "https://approvals.example.com/path"], "has a path"),
        (["--url", "approvals.example.com"], "is no address of a page"),
        (["--url", "https://user@approvals.example.com"], "is no address of a page"),
        (["--url", "https://approvals example.com"], "is no address of a page"),
        (["--url", "https://approvals%41.example.com"], "is no address of a page"),
        (["--url", "https://approvals;example.com"], "is no address of a page"),
        (["--url", "https://[fe80::1%25eth0]"], "is no address of a page"),
        (["--url", "https://approvals.example.com"], "needs a way to sign in"),
        (["--host", "0.0.0.0"], "other machines reach `0.0.0.0`"),
        (["--host", "nowhere.invalid"], "cannot listen at"),
    ],
)
def test_a_page_that_could_not_be_safe_does_not_start(
    run: Callable[..., Result], arguments: list[str], why: str
) -> None:
    ran = run("serve", "--port", "0", *arguments)
    assert ran.exit_code == 2
    assert why in ran.output


def test_serve_says_what_it_works_with(tmp_path: Path) -> None:
    """Where the inbox is, the key, and which setting is missing for a page of others."""
    options = ("--port", "0", "--url", "https://approvals.example.com", "--proxy-address", "10.0.7.5")
    child = subprocess.Popen(
        [sys.executable, "-m", "aegis_otel", "approvals", "serve", *options, "--proxy-user-header", "X-User"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert child.stdout is not None
    try:
        assert child.stdout.readline().startswith("The page is at https://approvals.example.com; it listens")
        line, allowed = child.stdout.readline(), child.stdout.readline()
    finally:
        child.send_signal(2)
        _, errors = child.communicate(timeout=20)
    assert re.fullmatch(
        rf"Questions come from {tmp_path}/aegis_audit/state\.sqlite3; answers are signed by \w+\.\n", line
    )
    assert allowed == "Everybody whom the proxy signs in is let in.\n"
    assert "Warning: without AEGIS_STATE" in errors
    assert "Warning: without AEGIS_ANSWER_KEY" in errors


def test_a_page_behind_a_proxy_of_this_machine_says_what_it_works_with(tmp_path: Path) -> None:
    """Also without `--url`."""
    options = ("--port", "0", "--proxy-address", "127.0.0.1", "--proxy-user-header", "X-User")
    child = subprocess.Popen(
        [sys.executable, "-m", "aegis_otel", "approvals", "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert child.stdout is not None
    try:
        assert re.fullmatch(
            r"The page is at http://127\.0\.0\.1:\d+\. Ctrl-C ends it\.\n", child.stdout.readline()
        )
        assert child.stdout.readline().startswith(
            f"Questions come from {tmp_path}/aegis_audit/state.sqlite3; "
        )
    finally:
        child.send_signal(2)
        child.communicate(timeout=20)


def test_a_provider_by_which_nobody_can_sign_in(tmp_path: Path) -> None:
    """The page warns when it starts, and not only who signs in first."""
    options = ("--oidc-issuer", "http://127.0.0.1:1", "--oidc-client-id", "page", "--allow-user", "*")
    child = subprocess.Popen(
        [sys.executable, "-m", "aegis_otel", "approvals", "serve", "--port", "0", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert child.stderr is not None
    try:
        said = []
        for line in child.stderr:
            said.append(line)
            if "nobody can sign in now: http://127.0.0.1:1" in line:
                break
    finally:
        child.send_signal(2)
        child.communicate(timeout=20)
    assert any("Warning: without --oidc-client-secret-file" in line for line in said)
    assert "nobody can sign in now" in said[-1]


@pytest.mark.parametrize(
    ("options", "state", "why"),
    [
        ((), "postgresql://nobody@127.0.0.1:1/nothing", "cannot connect"),
        (("--notify-url", "https://bot.example.com/"), None, "secret"),
        (("--notify-url", "https://bot.example.com/", "--notify-secret-file", "none"), None, "none"),
    ],
    ids=["state", "secret", "file"],
)
def test_no_link_is_printed_to_a_page_that_does_not_start(
    options: tuple[str, ...], state: str | None, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if state:
        monkeypatch.setenv("AEGIS_STATE", state)
    ran = CliRunner().invoke(
        main, ["approvals", "serve", "--port", "0", "--path", str(tmp_path / "audit"), *options]
    )
    assert ran.exit_code != 0
    assert why in ran.output
    assert "http://127.0.0.1:" not in ran.output


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--notify-url", "https://bot.example.com/"),
            "name its file by --notify-secret-file, or set AEGIS_NOTI",
        ),
        (("--notify-url", "http://bot.example.com/"), "by --notify-url: `url` must be https://..., or http"),
        (("--notify-secret-file", "secret"), "--notify-secret-file does nothing without --notify-url"),
        (("--host", "0.0.0.0"), "say by --url"),
        (("--url", "https://b\xfccher.example"), "xn--"),
    ],
    ids=str,
)
def test_options_of_serve_that_cannot_work(
    options: tuple[str, ...], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if options[-1] == "http://bot.example.com/":
        monkeypatch.setenv("AEGIS_NOTIFY_SECRET", "whsec_" + "A" * 40)
    ran = CliRunner().invoke(
        main, ["approvals", "serve", "--port", "0", "--path", str(tmp_path / "audit"), *options]
    )
    assert ran.exit_code != 0
    assert why in ran.output


def test_a_port_that_is_in_use(run: Callable[..., Result]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = run("serve", "--port", str(port))
    assert ran.output == (
        f"Error: cannot listen at `127.0.0.1`, port {port}: address already in use; another page may run "
        "there: choose --port\n"
    )
