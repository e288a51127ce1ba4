"""docs/approvals-production.md: the page runs as it says, with both sign-ins and with notifications."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx2
import pytest
from psycopg.conninfo import conninfo_to_dict
from standardwebhooks.webhooks import WebhookVerificationError

from aegis_otel import Action, Approval, Policy
from aegis_otel.cli import main
from aegis_otel.governance.approvals.inbox import Inbox
from aegis_otel.governance.approvals.inbox_proofs import proven_answers
from aegis_otel.model import Approvers
from aegis_otel.policy.lint import lint
from aegis_otel.runtime.approval import Person
from aegis_otel.runtime.approval.answer_signature import load_answer_keys
from aegis_otel.runtime.approval.local_user import local_user_name
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.state.opening import open_inbox
from tests.support import identity_provider
from tests.support.inbox import shared_question
from tests.support.pages import (
    ROOT,
    blocks_of,
    commands_of,
    read_page,
    run_in_shell,
    section_of,
    unnamed_files,
)

BLOCKS = blocks_of(read_page("approvals-production.md"))
COMMANDS = [command for block in BLOCKS if block.language == "console" for command, _ in commands_of(block)]
OPEN_ID, PROXY, NOTIFYING = [command for command in COMMANDS if command.startswith("aegis approvals serve")]
EXPORTS = [command for command in COMMANDS if command.startswith("export")]
PROGRAMS = [block.text for block in BLOCKS if block.language == "python" and not block.file]
FILES = {block.file: block.text for block in BLOCKS if block.file}


def options_of(command: str) -> dict[str, str]:
    """Return the options of a command, which all have a value."""
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:3] == ["aegis", "approvals", "serve"]
    return dict(zip(words[3::2], words[4::2], strict=True))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, after the commands that make keys and secrets."""
    for command in COMMANDS:
        if not command.startswith(("aegis", "export", "python agent.py")):
            ran = run_in_shell(command, tmp_path)
            assert ran.returncode == 0, (command, ran.stderr)
    for name in ("oidc-secret", "proxy-secret"):
        (tmp_path / name).write_text(f"{identity_provider.CLIENT_SECRET}\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def inbox(folder: Path) -> Inbox:
    return open_inbox(f"sqlite:///{folder}/state.sqlite3")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Served:
    """A page that runs as a process of its own."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def log(self) -> str:
        return self._log.read_text()

    def browser(self, **headers: str) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)


@contextmanager
def serving(command: str, folder: Path, port: int, **replaced: str) -> Iterator[Served]:
    """Run a command of the page, on this machine's addresses instead of those of its examples."""
    url = f"http://127.0.0.1:{port}"
    options = {**options_of(command), "--url": url, "--port": str(port)}
    options |= {f"--{name.replace('_', '-')}": value for name, value in replaced.items()}
    log = folder / "page.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "aegis_otel", "approvals", "serve"]
            + [word for option in options.items() for word in option],
            cwd=folder,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("AEGIS_")},
                "PYTHONPATH": str(ROOT),
                "AEGIS_STATE": f"sqlite:///{folder}/state.sqlite3",
                "AEGIS_ANSWER_KEY": str(folder / "answer-key.pem"),
            },
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
        )
    try:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield Served(url, log)
    finally:
        process.terminate()
        process.wait(30)


def test_files_are_named_in_the_text() -> None:
    """A rendered page does not show the name of a block."""
    assert not unnamed_files(BLOCKS)


def test_the_policy_asks_whom_it_says() -> None:
    policy = Policy.from_text(FILES["policy.yaml"])
    assert not lint(policy)
    large = policy.evaluate(Action("pay_invoice", params={"amount": 20_000}))
    assert large.verdict.approval is Approval.APPROVE
    assert large.verdict.approvers is not None
    assert large.verdict.approvers.count == 2
    small = policy.evaluate(Action("pay_invoice", params={"amount": 20}))
    assert small.verdict.approvers is not None
    assert small.verdict.approvers.users == ("*@board.example.com",)
    assert policy.evaluate(Action("search")).verdict.approval is Approval.AUTO


@pytest.mark.timeout(180)
def test_somebody_signs_in_with_openid_connect_and_answers(folder: Path, inbox: Inbox) -> None:
    """By a browser's steps: from a question to the provider, back to the question, and an answer."""
    asked = inbox.put(shared_question("d-1", user_id="carl"))
    port = free_port()
    back = f"http://127.0.0.1:{port}/sign-in/back"
    with (
        identity_provider.running(back) as provider,
        serving(
            OPEN_ID, folder, port, oidc_issuer=provider.issuer, oidc_client_id=identity_provider.CLIENT_ID
        ) as page,
        page.browser() as browser,
    ):
        start = browser.get("/questions/d-1").headers["location"]
        at_provider = browser.get(start).headers["location"]
        arrived = browser.get(provider.sign_in(at_provider))
        assert arrived.headers["location"] == "/questions/d-1"
        shown = browser.get("/questions/d-1")
        assert shown.status_code == 200
        assert "ann@example.com" in shown.text
        form = hidden_fields(shown.text, "/questions/d-1/answer")
        said = {**form, "answer": "yes", "reason": "ticket 7"}
        forged = browser.post(
            "/questions/d-1/answer", data=said, headers={"origin": "https://evil.example.com"}
        )
        assert forged.status_code == 403
        answered = browser.post("/questions/d-1/answer", data=said, headers={"origin": page.url})
        assert answered.status_code == 303, answered.text
        form = hidden_fields(browser.get("/").text, "/sign-out")
        assert browser.post("/sign-out", data=form, headers={"origin": page.url}).status_code == 200
        assert browser.get("/").headers["location"] == "/sign-in/start?next=%2F"
        provider.misbehave(claims={"aud": "another-program"})
        with page.browser() as other:
            at_provider = other.get("/sign-in/start").headers["location"]
            assert other.get(provider.sign_in(at_provider)).status_code == 403
        assert "is for another audience than this page" in page.log()
    (state,) = inbox.look(["d-1"]).values()
    assert state.digest == asked.digest
    assert state.status == "approved"
    assert [each.why for _, each in inbox.refused_answers(10, "d-1")] == [
        "the form was not sent from this page"
    ]


@pytest.mark.timeout(180)
def test_an_agent_goes_on_after_an_answer_on_the_page(folder: Path, inbox: Inbox) -> None:
    """It has the public key alone; the person is signed in by the provider."""
    (folder / "policy.yaml").write_text(FILES["policy.yaml"])
    (folder / "offline.py").write_text((ROOT / "examples" / "slack_approvals" / "offline.py").read_text())
    program = FILES["agent.py"].replace("Agent(name=", "Agent(model=scripted_model(), name=")
    (folder / "agent.py").write_text(f"from offline import scripted_model\n{program}")
    settings, of_page = (
        dict(word.split("=", 1) for command in commands for word in shlex.split(command)[1:])
        for commands in (EXPORTS[:2], EXPORTS[2:])
    )
    assert set(settings) == {"AEGIS_STATE", "AEGIS_ANSWER_PUBLIC_KEY"}
    assert set(of_page) == {"AEGIS_STATE", "AEGIS_ANSWER_KEY"}, "what `serving` starts the page with"
    settings["AEGIS_STATE"] = f"sqlite:///{folder}/state.sqlite3"  # for one machine
    assert settings["AEGIS_ANSWER_PUBLIC_KEY"].startswith("/etc/")
    settings["AEGIS_ANSWER_PUBLIC_KEY"] = str(folder / "answer-key.pub.pem")
    port = free_port()
    with (
        identity_provider.running(f"http://127.0.0.1:{port}/sign-in/back") as provider,
        serving(
            OPEN_ID, folder, port, oidc_issuer=provider.issuer, oidc_client_id=identity_provider.CLIENT_ID
        ) as page,
        page.browser() as browser,
        subprocess.Popen(
            [sys.executable, "-W", "error", "agent.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **settings},
            stdout=subprocess.PIPE,
            text=True,
        ) as agent,
    ):
        for _ in range(600):
            if waiting := inbox.listing():
                break
            assert agent.poll() is None, agent.communicate()
            time.sleep(0.05)
        path = f"/questions/{waiting[0].question.decision_id}"
        browser.get(provider.sign_in(browser.get("/sign-in/start").headers["location"]))
        listed = browser.get("/").text
        assert "pay_invoice" in listed
        assert "<bdi>ann@example.com</bdi>, with <bdi>finance, staff</bdi>" in listed
        keys = load_answer_keys(folder / "aegis_audit", str(folder / "answer-key.pub.pem")).key_ids
        assert f"Questions come from {folder}/state.sqlite3; answers are signed by {keys[0]}." in page.log()
        assert "ann@example.com has signed in" in page.log()
        assert "Warning" not in page.log()
        shown = browser.get(path).text
        assert "carl@example.com" in shown
        said = {**hidden_fields(shown, f"{path}/answer"), "answer": "yes"}
        assert browser.post(f"{path}/answer", data=said, headers={"origin": page.url}).status_code == 303
        assert agent.communicate(timeout=60)[0] == "The tool answered: Invoice 2041 is paid: 1900 euros.\n"
    (row,) = AuditLogger(folder / "aegis_audit").get_log()
    assert (row["result_status"], row["human_decision"], row["approver"]) == (
        "success",
        "approved",
        "ann@example.com",
    )


class Trial:
    """A reader who tries the page on one machine: with an inbox in a file, and the user's own key.

    Args:
        folder: Has the files of the page. Nothing else of it is used.
        port: Where the page listens.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.inbox = f"sqlite:///{folder}/approvals/state.sqlite3"
        folder.mkdir()
        for name in ("policy.yaml", "agent.py", "offline.py", "answer.sh"):
            (folder / name).write_text(FILES[name].replace(":8484", f":{port}"))
        section = section_of(read_page("approvals-production.md"), "Try it on one machine")
        self.start, self.serve, self.start_again, self.serve_names, self.answer = [
            block.text for block in blocks_of(section) if not block.file
        ]

    @contextmanager
    def shell(self, text: str, *more: str) -> Iterator[subprocess.Popen[str]]:
        """Run a block of the page, with more options for its last command, which is ended at the end."""
        programs = {"python": f'"{sys.executable}" -u', "aegis": f'"{sys.executable}" -u -m aegis_otel'}
        text = text.replace("/tmp/approvals", f"{self.folder}/approvals")
        lines = [
            re.sub(r"^(python|aegis)\b", lambda found: programs[found[1]], line) for line in text.splitlines()
        ]
        lines[-1] = f"exec {lines[-1]} {' '.join(more)}"
        variables = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AEGIS_", "OPENAI_", "OTEL_"))
        }
        keys = str(self.folder.with_suffix(".keys"))
        with subprocess.Popen(
            ["sh", "-ec", "\n".join(lines)],
            cwd=self.folder,
            env={**variables, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": keys},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def wait_for_question(self) -> None:
        for _ in range(600):
            if (self.folder / "approvals" / "state.sqlite3").exists() and open_inbox(self.inbox).listing():
                return
            time.sleep(0.05)
        raise AssertionError("nobody asks")

    def row(self) -> dict[str, Any]:
        (row,) = AuditLogger(self.folder / "aegis_audit").get_log()
        return row


PAID = "Invoice 2041 is paid: 1900 euros.\n"


@pytest.mark.timeout(180)
def test_it_is_tried_on_one_machine(tmp_path: Path) -> None:
    """The user of this machine answers by the link that the page prints."""
    port = free_port()
    trial = Trial(tmp_path / "trial", port)
    with trial.shell(trial.start) as agent, trial.shell(trial.serve, "--port", str(port)) as page:
        assert page.stdout is not None
        link = until_line(page.stdout, "Open ").removeprefix("Open ").strip()
        trial.wait_for_question()
        here = f"http://127.0.0.1:{port}"
        with httpx2.Client(base_url=here, trust_env=False, timeout=30, follow_redirects=True) as browser:
            (path,) = re.findall(r'href="(/questions/[^"?]+)"', browser.get(link).text)
            said = {**hidden_fields(browser.get(path).text, f"{path}/answer"), "answer": "yes"}
            answered = browser.post(f"{path}/answer", data=said, headers={"origin": here})
            assert answered.status_code == 200, answered.text
        assert agent.communicate(timeout=60)[0] == PAID
    assert trial.row()["approver"] == local_user_name()


@pytest.mark.timeout(180)
def test_two_persons_are_tried_on_one_machine(tmp_path: Path) -> None:
    """With names that `curl` sends as a proxy would."""
    port = free_port()
    trial = Trial(tmp_path / "trial", port)
    (trial.folder / "approvals").mkdir()  # as the first trial does
    carls = trial.answer.splitlines()[-1].replace("bob@", "carl@")
    with trial.shell(trial.serve_names, "--port", str(port)) as page:
        assert page.stdout is not None
        until_line(page.stdout, f"Questions come from {trial.folder}/approvals/state.sqlite3")
        with trial.shell(trial.answer) as nobody:
            said, code = nobody.communicate(timeout=60)[0], nobody.returncode
        waits = f"no question at http://127.0.0.1:{port} waits for your answer\n"
        assert (said, code) == (f"ann@example.com: {waits}", 1)
        with trial.shell(trial.start_again) as agent:
            trial.wait_for_question()
            with trial.shell(carls) as carl:
                assert carl.communicate(timeout=60)[0] == f"carl@example.com: {waits}"
            with trial.shell(trial.answer) as answers:
                said = answers.communicate(timeout=60)[0]
            assert agent.communicate(timeout=60)[0] == PAID
    assert "ann@example.com: status 303" in said
    assert re.search(r"pay_invoice .*1 of 2", said)
    assert said.endswith("bob@example.com: status 303\n")
    assert trial.row()["approver"] == "ann@example.com, bob@example.com"


def until_line(lines: Iterable[str], start: str) -> str:
    """Read lines up to the one that begins so, and return that."""
    found = next((line for line in lines if line.startswith(start)), None)
    assert found is not None, start
    return found


def hidden_fields(text: str, action: str) -> dict[str, str]:
    """Return the hidden fields of the form on a page that is sent to `action`."""
    form = text.partition(f'action="{action}"')[2].partition("</form>")[0]
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))


@pytest.mark.timeout(120)
def test_somebody_is_signed_in_by_a_proxy(folder: Path, inbox: Inbox) -> None:
    inbox.put(shared_question("d-1"))
    secret = {"X-Page-Secret": identity_provider.CLIENT_SECRET}
    named = {"X-Forwarded-Email": "Ann@Example.com", "X-Forwarded-Groups": "finance,staff"}
    at_secret = {"proxy_secret_header": "X-Page-Secret", "proxy_secret_file": "proxy-secret"}
    here = {"host": "127.0.0.1", "proxy_address": "127.0.0.1", **at_secret}
    with serving(PROXY, folder, free_port(), **here) as page:
        with page.browser(**named, **secret) as browser:
            assert "ann@example.com" in browser.get("/").text
        with page.browser(**named) as forger:
            assert forger.get("/").status_code == 403
        assert "does not have the proxy" in page.log()
    with (
        serving(PROXY, folder, free_port(), host="127.0.0.1") as page,  # the proxy is at 10.0.7.5
        page.browser(**named, **secret, **{"X-Forwarded-For": "10.0.7.5"}) as forger,
    ):
        assert forger.get("/").status_code == 403
        assert "came from 127.0.0.1, which is not the proxy" in page.log()


def test_the_proxy_is_set_up_for_the_page() -> None:
    """The part of its configuration is TOML, for the address and port at which the page listens."""
    settings, options = tomllib.loads(FILES["oauth2-proxy.toml"]), options_of(PROXY)
    assert settings["upstreams"] == [f"http://{options['--host']}:8484/"]
    comment = FILES["oauth2-proxy.toml"].partition("pass_user_headers")[2].partition("\n")[0]
    assert options["--proxy-user-header"] in comment
    assert options["--proxy-roles-header"] in comment


@pytest.mark.timeout(120)
def test_a_service_is_told_of_questions(folder: Path, inbox: Inbox) -> None:
    """Its message has the members of the page's example, and the page's function verifies it."""
    received: list[tuple[dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/notifications"
        with serving(NOTIFYING, folder, free_port(), oidc_issuer="http://127.0.0.1:1", notify_url=url):
            inbox.put(shared_question("d-1", approvers=Approvers(roles=("finance",)), expires_s=600.0))
            for _ in range(400):
                if received:
                    break
                time.sleep(0.05)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    (headers, body), *_ = received
    namespace: dict[str, Any] = {}
    exec(PROGRAMS[0], namespace)
    secret = (folder / "notify-secret").read_text().strip()
    message = namespace["read_notification"](secret, headers, body)
    with pytest.raises(WebhookVerificationError):
        namespace["read_notification"](secret, headers, body + b" ")
    (example,) = [json.loads(block.text) for block in BLOCKS if block.language == "json"]
    assert missing(example, message) == []
    assert set(example["data"]) == set(message["data"])


def test_a_program_takes_answers(folder: Path, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("AEGIS_STATE", f"sqlite:///{folder}/state.sqlite3")
    monkeypatch.setenv("AEGIS_ANSWER_KEY", str(folder / "answer-key.pem"))
    asked = inbox.put(shared_question("d-1", approvers=Approvers(roles=("finance",))))
    namespace: dict[str, Any] = {}
    exec(PROGRAMS[1], namespace)
    take, desk = namespace["take_answer"], namespace["desk"]
    bob, ann = Person("bob@example.com", (), "service"), Person("ann@example.com", ("finance",), "service")
    assert "does not count" in take(desk, "d-1", asked.digest, bob, True)
    assert "does not count" in take(desk, "d-1", "0" * 64, ann, True)
    assert take(desk, "d-1", asked.digest, ann, True) == "Noted: approved."
    (state,) = inbox.look(["d-1"]).values()
    keys = load_answer_keys(folder / "aegis_audit", str(folder / "answer-key.pub.pem"))
    assert [answer.approver for answer in proven_answers(state, keys)[0]] == ["ann@example.com"]


def missing(example: dict[str, Any], message: dict[str, Any], *, path: str = "") -> list[str]:
    """Return the members of the example that a message lacks, but for the arguments of its tool."""
    found = []
    for name, value in example.items():
        if name not in message:
            found.append(f"{path}{name}")
        elif isinstance(value, dict) and isinstance(message[name], dict) and name != "action_params":
            found += missing(value, message[name], path=f"{path}{name}.")
    return found


def test_the_service_of_systemd_starts_the_page() -> None:
    """Its command has the options of the command above, and so has the one for a proxy."""
    for file, options in (
        ("approvals.service", {**options_of(OPEN_ID), "--oidc-client-secret-file": "/etc/aegis/oidc-secret"}),
        ("proxy.conf", options_of(PROXY)),
    ):
        program, *words = shlex.split(unit_of(file)["Service"]["ExecStart"])
        assert Path(program).name == "aegis"
        assert options_of(shlex.join(["aegis", *words])) == options


def unit_of(file: str) -> configparser.ConfigParser:
    """Return a unit of systemd; of an entry that is there several times, the last one."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(FILES[file])
    return unit


@pytest.mark.parametrize("service", ["approvals", "agent"])
def test_what_a_service_reads_is_installed(service: str) -> None:
    """Its environment has the variables of the commands above, and names files that the page installs."""
    commands = "".join(block.text for block in BLOCKS if block.language == "bash")
    installed = set()
    for words in re.findall(r"^install (?:-[om] \S+ )+(.+)$", commands, re.MULTILINE):
        *names, target = words.split()
        installed |= {Path(target, name) for name in names}
    unit = unit_of(f"{service}.service")
    assert Path("/etc/systemd/system", f"{service}.service") in installed
    environment = Path(unit["Service"]["EnvironmentFile"])
    assert environment in installed
    lines = dict(line.split("=", 1) for line in FILES[environment.name].splitlines())
    exported = dict(command.split(" ", 1)[1].split("=", 1) for command in EXPORTS)
    assert set(lines) & set(exported) == (
        {"AEGIS_STATE", "AEGIS_ANSWER_KEY" if service == "approvals" else "AEGIS_ANSWER_PUBLIC_KEY"}
    )
    files = {Path(value) for name, value in lines.items() if name not in ("AEGIS_STATE", "AEGIS_AUDIT_DIR")}
    assert files <= installed


def test_each_connection_to_the_server_is_checked() -> None:
    addresses = re.findall(r"postgresql://[^\s'`]+", read_page("approvals-production.md"))
    assert len(addresses) == 5
    for address in addresses:
        found = conninfo_to_dict(address)
        assert found["sslmode"] == "verify-full"
        assert found["sslrootcert"] == "/etc/aegis/db-ca.pem"


def test_every_option_exists() -> None:
    text = read_page("approvals-production.md")
    group = main.get_command(click.Context(main), "approvals")
    assert isinstance(group, click.Group)
    serve = group.get_command(click.Context(group), "serve")
    assert serve is not None
    known = {name for parameter in serve.params for name in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z]", text)) <= known


def test_expire(folder: Path, inbox: Inbox) -> None:
    inbox.put(shared_question("d-1", expires_s=0.05))
    time.sleep(0.1)
    (command,) = [command for command in COMMANDS if "expire" in command]
    ran = run_in_shell(command, folder, AEGIS_STATE=f"sqlite:///{folder}/state.sqlite3")
    assert ran.returncode == 0, ran.stderr
    assert "d-1" in ran.stdout
