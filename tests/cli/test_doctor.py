"""`aegis doctor`: each thing it looks at, well and unwell, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agents import FunctionTool
from click.testing import CliRunner, Result

from aegis_otel.adapters.openai_agents.capture_point import CapturePoint
from aegis_otel.cli import main as aegis
from aegis_otel.cli.doctor import signals
from aegis_otel.state.inbox import StateInbox
from aegis_otel.state.opening import open_state
from aegis_otel.state.schema import VERSION
from tests.audit.seals.test_signing import make_key
from tests.support.inbox import shared_question
from tests.support.receiver import Received, attributes, otlp_line, receiving

POLICY = "version: '1'\ndefaults: { approval: auto, risk_level: low }\nrules: [{ name: a }]\n"

AGENT = """
print("imported")
from agents import Agent, WebSearchTool, function_tool

@function_tool
def look(x: int) -> str:
    return ""

safe = Agent(name="Safe", tools=[look])
class shop:
    clerk = Agent(name="Clerk", tools=[look, WebSearchTool()])
number = 5
"""


@pytest.fixture
def receiver() -> Iterator[Received]:
    with receiving() as received:
        yield received


@pytest.fixture
def folder(tmp_path: Path, receiver: Received, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where all is well: a policy, an endpoint that takes what it is sent, and a module of agents."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "doctor_agents.py").write_text(AGENT)
    monkeypatch.setenv("AEGIS_POLICY", "policy.yaml")
    place = receiver.endpoint.removeprefix("http://")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://me:hunter2@{place}")
    monkeypatch.setenv("AEGIS_APPROVALS", "sdk")
    before = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before[0]:
        if name.startswith("doctor_"):
            del sys.modules[name]
    assert sys.path == before[1]


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(aegis, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def checks(*arguments: str) -> dict[str, tuple[str, str]]:
    report = json.loads(run("--format", "json", *arguments).stdout)
    return {check["name"]: (check["status"], check["detail"]) for check in report["checks"]}


def test_all_is_well(folder: Path) -> None:
    """Everything ok, exit 0, nothing secret shown, and the SDK is as it was."""
    before = dict(vars(FunctionTool))
    result = run()
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["ok"] * 9
    assert "hunter2" not in result.output
    assert (CapturePoint.installed, dict(vars(FunctionTool))) == (None, before)
    assert set(checks()) == {
        *("versions", "settings", "policy", "audit", "placement", "approvals", "export", "probe"),
        "capture point",
    }


def test_versions_and_settings_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed, and what the environment changed; values of variables are not shown."""
    monkeypatch.setenv("AEGIS_MODE", "monitor")
    found = checks()
    assert "openai-agents 0." in found["versions"][1]
    assert found["settings"] == (
        "ok",
        "mode `monitor`, on_ungoverned `warn`; set by environment: AEGIS_POLICY, AEGIS_MODE, AEGIS_APPROVALS",
    )


@pytest.mark.parametrize(
    ("text", "code", "status", "detail"),
    [
        ("rules: [{ aproval: block }]", 3, "invalid", "did you mean `approval`?"),
        ("rules:\n  - name: a\n  - name: b\n", 1, "failed", "can never match"),
        ("defaults: {}\nrules: [{ match: { type: 'x[1]' } }]", 0, "warning", "has a `[`"),
    ],
    ids=["invalid", "a rule without effect", "a warning"],
)
def test_the_policy(folder: Path, text: str, code: int, status: str, detail: str) -> None:
    """An invalid one is exit 3; what the linter finds counts as in `aegis policy check`."""
    (folder / "other.yaml").write_text(text)
    assert run("--policy", "other.yaml").exit_code == code
    found = checks("--policy", "other.yaml")
    got = found.get("policy lint") or found["policy"]
    assert got[0] == status
    assert detail in got[1]


def test_no_policy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an invalid one, but nothing to govern by; the worst is shown first."""
    monkeypatch.delenv("AEGIS_POLICY")
    result = run()
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "failed   policy: no policy: set `AEGIS_POLICY`, or pass `--policy FILE`\n"
    )


def test_an_audit_that_cannot_be_written(folder: Path) -> None:
    (folder / "aegis_audit").write_text("in the way")
    result = run()
    assert result.exit_code == 1
    assert "failed   audit: `" in result.stdout
    assert "is a file, not an audit directory" in result.stdout


def test_a_setting_that_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AEGIS_ON_UNGOVERNED", "maybe")
    status, detail = checks()["settings"]
    assert (status, run().exit_code) == ("failed", 1)
    assert "`AEGIS_ON_UNGOVERNED` is `maybe`" in detail


LIMIT = """
version: "1"
rules: [{ name: few, conditions: { calls_over: { limit: 9, within: 1h } }, approval: block }]
"""


def test_the_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked where the policy counts calls, a setting names it, or it is there; else nothing is made."""
    assert "state" not in checks()
    assert not (folder / "aegis_audit" / "state.sqlite3").exists()
    (folder / "limit.yaml").write_text(LIMIT)
    detail = f"SQLite at `{folder}/{{}}` can be read and written; schema {VERSION}, marks: 0"
    assert checks("--policy", "limit.yaml")["state"] == ("ok", detail.format("aegis_audit/state.sqlite3"))
    assert checks()["state"] == ("ok", detail.format("aegis_audit/state.sqlite3"))
    monkeypatch.setenv("AEGIS_STATE", "sqlite:///elsewhere")
    assert checks()["state"] == ("ok", detail.format("elsewhere"))
    (folder / "elsewhere").write_text("in the way")
    status, said = checks()["state"]
    assert (status, run().exit_code) == ("failed", 1)
    assert "is not a database: move it away" in said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://me:hunter2@/db?host=/nowhere", "cannot connect to `postgresql://me@/nowhere/db`"),
        ("mysql://me:hunter2@/db", "`AEGIS_STATE` is no address of a state"),
    ],
)
def test_a_state_that_cannot_be_reached(
    folder: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    """The password is in no output."""
    monkeypatch.setenv("AEGIS_STATE", address)
    status, detail = checks()["state"]
    assert (status, said in detail) == ("failed", True), detail
    assert "hunter2" not in run().output


def test_the_inbox(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked where a setting names a key of answers; whoever has the private one may not be an agent."""

    def inbox(*arguments: str) -> list[tuple[str, str]]:
        report = json.loads(run("--format", "json", *arguments).stdout)
        return [(each["status"], each["detail"]) for each in report["checks"] if each["name"] == "inbox"]

    assert inbox() == []
    monkeypatch.setenv("AEGIS_STATE", "sqlite:///elsewhere")
    monkeypatch.setenv("AEGIS_ANSWER_KEY", str(folder / "own.pem"))
    ((status, said),) = inbox()
    assert (status, "cannot read the key" in said) == ("failed", True)
    make_key(folder / "own.pem")
    _, public = make_key(folder / "other.pem")
    ((status, said),) = inbox()
    assert status == "ok"
    assert re.fullmatch("questions that wait: 0; answers count by [0-9a-f]{16}", said)
    StateInbox(open_state()).put(shared_question())
    assert "questions that wait: 1;" in inbox()[0][1]
    (status, said), _ = inbox("doctor_agents:safe")
    assert (status, "this agent has the key that signs answers" in said) == ("warning", True)
    monkeypatch.setenv("AEGIS_ANSWER_PUBLIC_KEY", str(public))
    (status, said), (ok, _) = inbox()
    assert (status, "no answer that it signs counts" in said, ok) == ("warning", True, "ok")
    public.chmod(0o666)
    ((status, said),) = inbox()
    assert (status, "can be written by other users" in said) == ("failed", True)


@pytest.mark.parametrize("setting", ["AEGIS_APPROVAL_KEY", "AEGIS_SEAL_KEY"])
def test_keys_that_the_environment_names(folder: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """One that cannot be used fails here, before an answer or a sealing does."""
    name = setting.removeprefix("AEGIS_").replace("_", " ").lower()
    assert name not in checks()
    key = folder / "key.pem"
    monkeypatch.setenv(setting, str(key))
    status, detail = checks()[name]
    assert (status, run().exit_code) == ("failed", 1)
    assert str(key) in detail
    make_key(key)
    assert checks()[name] == ("ok", f"`{key}` can be used")


def test_no_secret_is_shown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one in a wrong variable."""
    monkeypatch.setenv("AEGIS_ON_UNGOVERNED", "https://me:hunter2@host")
    assert "failed   settings" in run().output
    assert "hunter2" not in run().output
    assert "hunter2" not in run("--format", "json").output


def test_nobody_to_ask_and_nowhere_to_send(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings: a program may bring its own handler and providers."""
    monkeypatch.delenv("AEGIS_APPROVALS")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    found = checks()
    assert [found[name][0] for name in ("approvals", "export")] == ["warning"] * 2
    assert run().exit_code == 0


def test_an_sdk_that_does_not_look_where_the_capture_point_stands(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-test's finding is shown, and nothing is left installed."""
    from aegis_otel.adapters.openai_agents.capture import function_tools

    monkeypatch.setattr(function_tools, "install", lambda gates, patches: None)
    status, detail = checks()["capture point"]
    assert (status, run().exit_code) == ("failed", 1)
    assert "the body of a tool was reached" in detail
    assert CapturePoint.installed is None


def test_the_coverage_of_an_agent(folder: Path) -> None:
    """A table under the checks; a tool that is not governed is exit 1."""
    result = run("doctor_agents:shop.clerk")
    assert result.exit_code == 1
    table = result.stdout.partition("\n\n")[2].splitlines()
    assert [line.split()[:4] for line in table[1:]] == [
        ["Clerk", "look", "function", "enforced"],
        ["Clerk", "web_search", "web", "search"],
    ]
    assert run("doctor_agents:safe").exit_code == 0


def test_the_coverage_as_json(folder: Path) -> None:
    """What the imported module prints is no part of the report."""
    report: dict[str, Any] = json.loads(run("doctor_agents:safe", "--format", "json").stdout)
    assert report["coverage"] == [
        {"agent": "Safe", "tool": "look", "kind": "function", "status": "enforced", "reason": ""}
    ]


def test_a_program_that_instruments_itself(folder: Path) -> None:
    """Its capture point is the one that is looked at."""
    (folder / "doctor_own.py").write_text(
        AGENT + "import aegis_otel\nmine = aegis_otel.instrument(policy='policy.yaml', mode='monitor')\n"
    )
    try:
        report = json.loads(run("doctor_own:safe", "--format", "json").stdout)
    finally:
        sys.modules["doctor_own"].mine.shutdown()
    assert [row["status"] for row in report["coverage"]] == ["observed"]
    details = {check["name"]: check["detail"] for check in report["checks"]}
    assert "installed by the program" in details["capture point"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("doctor_agents", "is not MODULE:AGENT"),
        ("doctor_none:agent", "ModuleNotFoundError"),
        ("doctor_agents:nobody", "AttributeError"),
        ("doctor_agents:number", "is a `int`, not an agent"),
        ("doctor_broken:agent", "ZeroDivisionError"),
    ],
)
def test_wrong_targets(folder: Path, target: str, message: str) -> None:
    """Exit 2, and the reason."""
    (folder / "doctor_broken.py").write_text("1 / 0")
    result = run(target)
    assert result.exit_code == 2
    assert message in result.stderr


# --- the way of signals ---


def test_the_probe_is_an_event_and_no_decision(folder: Path, receiver: Received) -> None:
    assert checks()["probe"] == ("ok", "the endpoint took an event")
    (log,) = receiver.logs()
    assert log.event_name == "aegis.probe"
    assert list(attributes(log)) == ["aegis.decision.id"]


def test_an_endpoint_that_refuses(folder: Path, receiver: Received) -> None:
    """Exit 1, and what the endpoint said, on a line of ours."""
    receiver.status = 401
    result = run()
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if "probe" in line]
    assert line.startswith("failed   probe: the endpoint did not take an event: ")
    assert "401" in line


def test_an_endpoint_that_is_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert checks()["probe"][0] == "failed"


def test_an_endpoint_that_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
    status, detail = checks()["export"]
    assert status == "failed"
    assert "`collector:4318` in OTEL_EXPORTER_OTLP_ENDPOINT is no URL" in detail


def test_an_event_that_arrives(folder: Path, receiver: Received, tmp_path: Path) -> None:
    """A collector that writes what it is sent, as its file exporter does."""
    file = tmp_path / "events.jsonl"
    stop = threading.Event()

    def collect() -> None:
        while not stop.wait(0.02):
            file.write_text("".join(map(otlp_line, receiver.requests["logs"])))

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        assert checks("--arrives-in", str(file))["probe"] == ("ok", f"an event arrived in `{file}`")
    finally:
        stop.set()
        thread.join()


def test_an_event_that_does_not_arrive(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another's probe in the file is not ours."""
    monkeypatch.setattr(signals, "_PATIENCE_S", 0.3)
    file = tmp_path / "events.jsonl"
    with receiving() as other:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", other.endpoint)
        run()
        file.write_text("".join(map(otlp_line, other.requests["logs"])))
        status, detail = checks("--arrives-in", str(file))["probe"]
    assert status == "failed"
    assert f"after 0.3 s it is not in `{file}`" in detail


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://127.0.0.1:1", "does not answer: ConnectError"),
        ("{receiver}", "answers 501"),
        ("nonsense", "is no URL"),
    ],
)
def test_a_collector_that_is_not_well(folder: Path, receiver: Received, url: str, detail: str) -> None:
    found = checks("--health", url.format(receiver=receiver.endpoint))["collector"]
    assert found[0] == "failed"
    assert detail in found[1]


def test_an_endpoint_alone_sends_nothing(folder: Path) -> None:
    """A program has to do something for it, and that is said."""
    assert checks()["export"] == (
        "ok",
        "OTLP, by OTEL_EXPORTER_OTLP_ENDPOINT: a program sends there once it calls configure_otlp(), "
        "or is started by opentelemetry-instrument",
    )


@pytest.mark.parametrize(
    ("line", "export"),
    [
        (
            "",
            (
                "warning",
                "an endpoint is set, but `doctor_sends` installs no provider: call configure_otlp(), "
                "or start it with opentelemetry-instrument",
            ),
        ),
        (
            "import aegis_otel; aegis_otel.configure_otlp()",
            (
                "ok",
                "OTLP, by OTEL_EXPORTER_OTLP_ENDPOINT: "
                "`doctor_sends` has providers for traces, logs, metrics",
            ),
        ),
    ],
    ids=["none", "configure_otlp"],
)
def test_a_program_that_sends_and_one_that_does_not(folder: Path, line: str, export: tuple[str, str]) -> None:
    """In a process of its own: providers are installed for good."""
    (folder / "doctor_sends.py").write_text(AGENT + line)
    command = [sys.executable, "-m", "aegis_otel", "doctor", "doctor_sends:safe", "--format", "json"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=_here())
    found = {each["name"]: (each["status"], each["detail"]) for each in json.loads(ran.stdout)["checks"]}
    assert found["export"] == export
    assert found["probe"][0] == "ok"


def _here() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("option", ["--arrives-in", "--health"])
def test_nowhere_to_send_what_should_arrive(
    folder: Path, monkeypatch: pytest.MonkeyPatch, receiver: Received, option: str
) -> None:
    """Who asks where events arrive is not told that all is well."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT")
    value = "events.jsonl" if option == "--arrives-in" else receiver.endpoint
    assert run(option, value).exit_code == 1
    status, detail = checks(option, value)["export"]
    assert (status, detail) == (
        "failed",
        f"no OTLP endpoint: `{option}` needs one, set OTEL_EXPORTER_OTLP_ENDPOINT",
    )


def test_a_port_that_is_usually_grpc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setattr(signals, "_EXPORT_S", 0.2)
    status, detail = checks()["probe"]
    assert status == "failed"
    assert "port 4317 is usually gRPC: set OTEL_EXPORTER_OTLP_PROTOCOL to `grpc`, or try port 4318" in detail
    assert ".;" not in detail


def test_no_full_stop_before_a_semicolon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(signals, "_EXPORT_S", 0.2)
    detail = checks()["probe"][1]
    assert ".;" not in detail
    assert "gRPC" not in detail


def test_a_file_that_nobody_can_write(folder: Path, receiver: Received) -> None:
    """Said at once, and nothing is sent for it."""
    assert checks("--arrives-in", "nowhere/events.jsonl")["probe"] == (
        "failed",
        "nothing can arrive in `nowhere/events.jsonl`: its directory does not exist",
    )
    assert receiver.logs() == []


def test_each_mistake_of_a_policy_has_a_line(folder: Path) -> None:
    (folder / "other.yaml").write_text("rules: [{ name: a, aproval: block }]\ndefault: {}\n")
    lines = run("--policy", "other.yaml").stdout.splitlines()
    assert lines[0].startswith("invalid  policy: other.yaml:")
    assert lines[1].startswith("         other.yaml:")
    assert lines[2].startswith("ok ")
    assert "\\n" not in "".join(lines)


def test_a_variable_that_is_no_setting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one that looks like a setting: others may have a use for the prefix."""
    monkeypatch.setenv("AEGIS_RUNBOOKS", "1")
    monkeypatch.setenv("AEGIS_REQUIRE_STACK", "1")
    assert checks()["settings"][0] == "ok"
    monkeypatch.setenv("AEGIS_MODEE", "monitor")
    status, detail = checks()["settings"]
    assert (status, run().exit_code) == ("warning", 0)
    assert detail.startswith("unknown `AEGIS_MODEE` (did you mean `AEGIS_MODE`?); mode `enforce`")


@pytest.mark.parametrize("there", [True, False])
def test_object_storage(folder: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Where it goes is said, and that it cannot without the package."""
    monkeypatch.setenv("AEGIS_AUDIT_DIR", "s3://bucket/ours")
    monkeypatch.setitem(sys.modules, "obstore", ModuleType("obstore") if there else None)
    if there:
        sys.modules["obstore"].__spec__ = ModuleSpec("obstore", None)
    spool = folder / "aegis_audit-bucket-ours"
    assert checks()["audit"] == (
        ("ok", f"`{spool}` can be written; what is sealed goes to `s3://bucket/ours`")
        if there
        else ("failed", "`s3://bucket/ours` needs object storage: pip install '.[s3]' in a clone")
    )


def test_the_candidate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program starts also where its candidate cannot be loaded: only this check says so beforehand."""
    monkeypatch.setenv("AEGIS_CANDIDATE", "nope.yaml")
    status, detail = checks()["candidate"]
    assert (status, detail, run().exit_code) == ("failed", "nope.yaml: policy file not found", 1)
    (folder / "nope.yaml").write_text(POLICY)
    status, detail = checks()["candidate"]
    assert (status, detail[:31], run().exit_code) == ("ok", "`nope.yaml` valid, rules: 1, sh", 0)
