"""Secrets (K6): a generated corpus through every outlet, the rules as data, redaction before cutting."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aegis_otel import Action
from aegis_otel.adapters.base import BaseExecutor
from aegis_otel.cli import main
from aegis_otel.model import Approval, PolicyDecision, Result, RiskLevel, Verdict
from aegis_otel.redaction.redactor import redact, redact_text
from aegis_otel.redaction.serialize import to_plain
from aegis_otel.report.queries import MAX_CALLS
from aegis_otel.runtime.approval import CLIApprovalHandler, WebhookApprovalHandler
from aegis_otel.runtime.approval.webhook import Signer
from tests.cases.secret_shapes import Shape, harmless, secrets
from tests.support.kit import Bench, make_bench

AUTO = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": []}
ASK = {"version": "1", "defaults": {"risk_level": "low", "approval": "approve"}, "rules": []}
LISTED = {"version": "1", "defaults": {"risk_level": "critical", "approval": "auto"}, "rules": []}
"""The report lists CRITICAL calls with their arguments."""
KEY = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
CORPUS = secrets()
TEXTS = [str(shape.value.get("text") or json.dumps(shape.value, ensure_ascii=False)) for shape in CORPUS]
"""Where an outlet has a text and no arguments."""


def shows(secret: str, text: str) -> bool:
    """Whether half of a secret or more can be read in `text`."""
    half = max(4, (len(secret) + 1) // 2)
    lines = text.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
    return any(
        secret[at : at + half] in seen for at in range(len(secret) - half + 1) for seen in (text, lines)
    )


def hidden(shapes: list[Shape], seen: list[str]) -> float:
    """The part of `shapes` of which no secret can be read in what was seen of each."""
    assert len(shapes) == len(seen)
    leaks = [
        shape.name
        for shape, text in zip(shapes, seen, strict=True)
        if any(shows(secret, text) for secret in shape.secrets)
    ]
    return 1 - len(leaks) / len(shapes)


class Failing(BaseExecutor):
    """Fails with the text that it is given, as a body does whose driver quotes what it was asked."""

    async def execute(self, action: Action) -> Result:
        raise ValueError(action.params.get("text") or str(action.params))


class Asked(BaseHTTPRequestHandler):
    """A web service that says yes."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(body.decode())  # type: ignore[attr-defined]
        answer = b'{"approved": true}'
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        self.send_response(200)
        signature = Signer(KEY).sign(self.headers[names[0]], self.headers[names[1]], answer)
        self.send_header(names[0], self.headers[names[0]])
        self.send_header(names[1], self.headers[names[1]])
        self.send_header(names[2], signature)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    return make_bench(tmp_path / "audit", policy=AUTO, executor=Failing())


async def test_k6_corpus_is_hidden_in_rows_spans_and_error_texts(failing: Bench) -> None:
    """What is written, exported and kept of an exception."""
    for number, shape in enumerate(CORPUS):
        await failing.runtime.run_one(Action("use", "default", {"n": number, **shape.value}))
    rows = failing.rows()
    assert hidden(CORPUS, [json.dumps(row["action_params"], ensure_ascii=False) for row in rows]) >= 0.95
    assert hidden(CORPUS, [row["result_error"] for row in rows]) >= 0.95
    spans = [dict(span.attributes) for span in failing.telemetry.spans("execute_tool")]
    assert hidden(CORPUS, [str(span["gen_ai.tool.call.arguments"]) for span in spans]) >= 0.95


async def test_k6_corpus_is_hidden_in_events(failing: Bench) -> None:
    """A name that a model made up is on every signal of a call."""
    for text in TEXTS:
        await failing.runtime.run_one(Action(f"use {text}", "default", {}))
    events = failing.telemetry.events("aegis.tool.decision")
    assert hidden(CORPUS, [str(event) for event in events]) >= 0.95


async def test_k6_corpus_is_hidden_from_a_webhook(tmp_path: Path, service: Any) -> None:
    """The question as the service gets it."""
    handler = WebhookApprovalHandler(f"http://127.0.0.1:{service.server_port}/", secret=KEY)
    bench = make_bench(tmp_path / "audit", policy=ASK, executor=Failing(), approver=handler, timeout=60)
    for shape in CORPUS:
        await bench.runtime.run_one(Action("use", "default", dict(shape.value)))
    assert hidden(CORPUS, service.asked) >= 0.95


async def test_k6_corpus_is_hidden_at_the_terminal() -> None:
    """The question as it is printed."""
    verdict = Verdict(Approval.APPROVE, RiskLevel.LOW, "ask", "x", (), "sha256:" + "1" * 64)
    seen = []
    for text in TEXTS:
        out = io.StringIO()
        decision = PolicyDecision(Action("use", text, {}), verdict)
        await CLIApprovalHandler(stdin=io.StringIO("n\n"), stdout=out).request_approval(decision)
        seen.append(out.getvalue().replace("\n  | ", ""))
    assert all("APPROVAL REQUIRED" in text for text in seen)
    assert hidden(CORPUS, seen) >= 0.95


async def test_k6_corpus_is_hidden_in_the_report(tmp_path: Path) -> None:
    """The page for auditors: the arguments of the last CRITICAL calls, and half of their error texts."""
    leaks = masks = 0
    for first in range(0, len(CORPUS), MAX_CALLS):
        part = CORPUS[first : first + MAX_CALLS]
        bench = make_bench(tmp_path / f"audit{first}", policy=LISTED, executor=Failing())
        for shape in part:
            await bench.runtime.run_one(Action("use", "default", dict(shape.value)))
        page = tmp_path / f"report{first}.html"
        ran = CliRunner().invoke(main, ["report", "--path", str(bench.audit), "--output", str(page)])
        assert ran.exit_code == 0, ran.output
        html = unescape(page.read_text(encoding="utf-8").replace("<wbr>", ""))  # as a reader sees it
        assert all(row["decision_id"][-8:] in html for row in bench.rows())
        masks += html.count("REDACTED")
        leaks += sum(any(shows(secret, html) for secret in shape.secrets) for shape in part)
    assert masks >= len(CORPUS) / 2
    assert leaks <= 0.05 * len(CORPUS)


def test_k6_corpus_is_large_and_a_third_of_it_unseen() -> None:
    """The corpus, and what of its unseen part is hidden; the same of the part that was held out."""
    unseen = [shape for shape in CORPUS if not shape.seen]
    held_out = [shape for shape in CORPUS if shape.held_out]
    assert len(CORPUS) >= 700
    assert 3 * len(held_out) >= len(CORPUS)
    for part in (unseen, held_out):
        seen = [json.dumps(redact(to_plain(shape.value)), ensure_ascii=False) for shape in part]
        assert hidden(part, seen) >= 0.95


KINDS: dict[str, tuple[Any, str]] = {
    "form": ("user%3Dann%26password%3Dhunter2%26go%3D1", "hunter2"),
    "form of JSON": ("%7B%22password%22%3A%22hunter2%22%7D", "hunter2"),
    "next line": ("db:\n  password:\n    hunter22\n  host: x", "hunter22"),
    "table in Markdown": ("| user | ann |\n| **password** | hunter2 |\n", "hunter2"),
    "part of a form": ({"body": 'name="password"\r\n\r\nhunter2\r\n--x--'}, "hunter2"),
    "netrc": ("machine x.example login ann password hunter2", "hunter2"),
    "openssl": ("openssl enc -aes-256-cbc -k hunter2 -in a", "hunter2"),
    "7z": ("7z x -phunter2 a.7z", "hunter2"),
    "zip": ("zip -P hunter2 a.zip a", "hunter2"),
    "sudo": ("echo hunter2 | sudo -S ls", "hunter2"),
    "chpasswd": ("echo 'root:hunter2' | chpasswd", "hunter2"),
    "htpasswd": ("htpasswd -b f ann hunter2", "hunter2"),
    "two secrets of one command": ("snmpget -A hunter21 -x AES -X hunter22 h", "hunter22"),
    "identified": ('CREATE USER x IDENTIFIED BY "hunter2"', "hunter2"),
    "a function of SQL": ("UPDATE u SET password = crypt('hunter2', gen_salt('bf'))", "hunter2"),
    "full width": ("\uff30\uff21\uff33\uff33\uff37\uff2f\uff32\uff24\uff1dhunter2", "hunter2"),
    "Cyrillic": ("p\u0430ssw\u043erd=hunter2", "hunter2"),
    "zero width": ("pass\u200bword=hunter2", "hunter2"),
    "continued": ("password=hunt\\\ner2222", "er2222"),
    "login": ("login('bob', 'hunter2')", "hunter2"),
    "auth": ("requests.get(u, auth=('bob', 'hunter2'))", "hunter2"),
    "setter": ('builder.setPassword("hunter2")', "hunter2"),
    "base64": (base64.b64encode(b"user=ann&password=hunter2").decode(), "aHVudGVyM"),
    "base64 of JSON": (base64.b64encode(b'{"password": "hunter2"}').decode(), "aHVudGVyM"),
    "hexadecimal": (b"password=hunter2".hex(), b"hunter2".hex()),
    "Oracle": ("sqlplus scott/hunter2@db", "hunter2"),
    "proxy": ("http_proxy=ann:hunter2@proxy.example:3128", "hunter2"),
    "vault": ("vault kv put secret/x db=hunter2", "hunter2"),
    "RDP": ("xfreerdp /u:ann /p:hunter2", "hunter2"),
    "Windows": ("net user bob hunter2 /add", "hunter2"),
    "PowerShell": ("ConvertTo-SecureString 'hunter2' -AsPlainText", "hunter2"),
    "XML": ('<property name="password"><value>hunter2</value></property>', "hunter2"),
    "Kubernetes": ("env:\n- name: DB_PASSWORD\n  value: hunter2", "hunter2"),
    "Terraform": ('variable "db_password" {\n  type = string\n  default = "hunter2"\n}', "hunter2"),
    "router": ("username ann password 0 hunter2", "hunter2"),
    "German": ("mein Passwort ist hunter2.", "hunter2"),
    "Spanish": ("la contraseña es hunter2", "hunter2"),
    "Chinese": ("密码是hunter2", "hunter2"),
    "code": ("your verification code is 482913", "482913"),
    "arguments": ({"argv": ["mysql", "-phunter2"]}, "hunter2"),
    "arguments apart": ({"argv": ["sshpass", "-p", "hunter2", "ssh", "h"]}, "hunter2"),
    "pair": ({"k": "password", "v": "hunter2"}, "hunter2"),
    "pair in a list": ({"fields": [{"key": "DB_PASS", "val": "hunter2"}]}, "hunter2"),
    "name in Cyrillic": ({"p\u0430ssword": "hunter2"}, "hunter2"),
    **{name: ({name: "hunter2"}, "hunter2") for name in ("privkey", "private", "unlock", "security_answer")},
}


@pytest.mark.parametrize(("value", "secret"), KINDS.values(), ids=KINDS)
def test_k6_kinds_a_reviewer_found_are_hidden(value: Any, secret: str) -> None:
    """One short value for each: no length and no random characters help to find it."""
    plain = to_plain(value if isinstance(value, dict) else {"text": value})
    shown = redact(plain)
    assert not shows(secret, json.dumps(shown, ensure_ascii=False))
    assert redact(shown) == shown
    if isinstance(value, str):
        assert not shows(secret, redact_text(value))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("openssl enc -k x; rm -rf /srv", "; rm -rf /srv"),
        ("7z x -phunter2 && rm -rf /srv", " && rm -rf /srv"),
        ("zip -P $(rm${IFS}-rf${IFS}/srv) a", "$(rm${IFS}-rf${IFS}/srv)"),
        ("zip -P `rm${IFS}-rf${IFS}/srv` a", "`rm${IFS}-rf${IFS}/srv`"),
        ("echo x | sudo -S rm -rf /srv", " | sudo -S rm -rf /srv"),
        ("net user ann x1 & shutdown", " & shutdown"),
        ("password:\nrm -rf /srv", "\nrm -rf /srv"),
        ("password:\nreboot\n", "\nreboot\n"),
        ("password:\nwipe2\n", "\nwipe2\n"),
        ("echo password:\n  wipe2\n", "\n  wipe2\n"),
        ("password:\n  ./run1.sh\n", "./run1.sh"),
        ("password=a1\\\nreboot", "\nreboot"),
        ("x%3Dpassword%3Da;rm", ";rm"),
        ("login('a', 'b'); rm('c')", "; rm('c')"),
        ('setPassword("$(reboot)")', "$(reboot)"),
    ],
)
def test_k6_masks_of_these_kinds_cover_no_command(text: str, kept: str) -> None:
    """What a shell would run as another command stays (K3)."""
    assert kept in redact_text(text)


def test_k6_arguments_of_a_program_keep_their_commands() -> None:
    """An item of a list may be a command line of its own."""
    shown = redact({"argv": ["bash", "-c", "mysql -phunter2 x; rm -rf /srv"]})
    assert shown == {"argv": ["bash", "-c", "mysql -p[REDACTED 7 chars] x; rm -rf /srv"]}
    assert redact({"argv": ["docker", "run", "-p", "80:80"]}) == {"argv": ["docker", "run", "-p", "80:80"]}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_k6_corpus_of_another_seed(seed: int) -> None:
    """The figure is that of the shapes, not of one set of values."""
    corpus = secrets(seed)
    seen = [json.dumps(redact(to_plain(shape.value)), ensure_ascii=False) for shape in corpus]
    assert hidden(corpus, seen) >= 0.95


def test_k6_harmless_texts_stay() -> None:
    """Ids, hashes, prose about passwords, SQL, code, pictures and numbers."""
    values = harmless()
    touched = [value for value in values if redact(to_plain(value)) != to_plain(value)]
    assert len(values) >= 400
    assert len(touched) <= 0.02 * len(values), touched


MET: dict[str, tuple[object, str]] = {
    "GitLab runner": ("glrt-t1_A9kQz7Lm2Xv5Bn8Rc4Td", "A9kQz7Lm2Xv5Bn8Rc4Td"),
    "Vault batch": ("hvb." + "A9kQz7Lm2Xv5Bn8Rc4Td" * 8, "A9kQz7Lm2Xv5Bn8Rc4Td"),
    "New Relic": ("NRAK-A9KQZ7LM2XV5BN8RC4TD6WY3H1J", "A9KQZ7LM2XV5BN8RC4TD6WY3H1J"),
    "SQL Server": ("CREATE LOGIN app WITH PASSWORD = N'Zq9tulip'", "Zq9tulip"),
    "SQL values": ("INSERT INTO users (name, password) VALUES ('b','Zq9tulip')", "Zq9tulip"),
    "a short option": ("docker login -u app -p Zq9tulip registry.example", "Zq9tulip"),
    "a long option": ("mysqldump --password Zq9tulip shop", "Zq9tulip"),
    "Digest": (
        'Authorization: Digest username="app", response="6629fae49393a05397450978507c4ef1"',
        "6629fae4",
    ),
    "a name in a shell": ("DB_PW=Zq9tulip ./deploy", "Zq9tulip"),
    **{name: ({name: "Zq9tulip"}, "Zq9tulip") for name in ("pw", "DB_PW", "stripe_key", "sid", "pem")},
    **{name: ({name: "Zq9tulip"}, "Zq9tulip") for name in ("contraseña", "mot_de_passe", "пароль", "密码")},
}


@pytest.mark.parametrize(("value", "secret"), MET.values(), ids=MET)
def test_k6_what_was_met_in_use_is_hidden(value: Any, secret: str) -> None:
    """One shape for each sort that passed, beside the corpus, whose figure leaves room for one."""
    shown = redact(to_plain(value if isinstance(value, dict) else {"text": value}))
    assert not shows(secret, json.dumps(shown, ensure_ascii=False))


def test_k6_what_stands_behind_a_semicolon_is_hidden() -> None:
    """As far as it still is one word with the value."""
    assert "cd" not in redact_text("password=ab;cd")


def test_k6_error_text_is_redacted_before_it_is_cut(failing: Bench) -> None:
    """A secret across the place where an error text is cut: no half of it shows."""
    from aegis_otel.governance.error_text import describe

    for before in range(1_900, 2_600, 7):
        text = f"{'x ' * (before // 2)}-----BEGIN PRIVATE KEY-----\n{'MIIEowIBAAKCAQEA' * 60}\n"
        assert "MIIEow" not in describe(ValueError(text))
        address = f"postgres://app:Zq9!{'k' * 700}@db"
        assert "Zq9!" not in describe(ValueError(f"{'z ' * (before // 2)}{address}"))
        assert "Zq9!" not in describe(ValueError(f"{'y ' * (before // 2)}password='Zq9!{'k' * 700}'"))


def test_k6_names_of_classes_are_redacted() -> None:
    """A class that is named after a value, and whose text cannot be had."""
    from aegis_otel.governance.error_text import describe

    def fail(self: object) -> str:
        raise RuntimeError

    kind = type("password=hunter2", (Exception,), {"__str__": fail})
    assert "hunter2" not in describe(kind())


async def test_k6_service_and_host_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SERVICE_NAME` goes on every row."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop password=Zq9hunter2")
    bench = make_bench(tmp_path / "audit", policy=AUTO, executor=Failing())
    await bench.runtime.run_one(Action("use", "default", {}))
    assert "Zq9hunter2" not in str(bench.row())
    assert bench.row()["service"].startswith("shop password=[REDACTED")


def test_k6_rules_are_data_with_their_licence() -> None:
    """Which release they are from, and under which licence."""
    folder = Path(__file__).parents[2] / "aegis_otel" / "redaction" / "data"
    data = json.loads((folder / "gitleaks.json").read_text(encoding="utf-8"))
    assert data["source"].startswith("github.com/zricethezav/gitleaks/v8@v8.")
    assert len(data["rules"]) > 150
    assert "MIT License" in (folder / "LICENSE.gitleaks").read_text(encoding="utf-8")
    assert "MIT" in (folder / "LICENSE.bip39").read_text(encoding="utf-8")


def test_k6_seed_phrase_is_hidden_whole() -> None:
    """Every word of it, one word a line too; prose stays."""
    words = "abandon ability able about above absent absorb abstract absurd abuse access accident"
    assert redact_text(words) == f"[REDACTED {len(words)} chars]"
    assert not shows("absurd", redact_text(words.replace(" ", "\n")))
    assert redact_text("this will not have that") == "this will not have that"


@pytest.mark.parametrize(
    "before", ["Foo\n", "long establishments ", "of a\t", "A, ", "the one that ", "plain words " * 1_998]
)
def test_k6_seed_phrase_behind_other_words_is_hidden(before: str) -> None:
    """In JSON as well, where the letter of an escaped line break stands before the first word."""
    words = "essence flock talent distance bus educate always month tone silver faint weather"
    for text in (before + words, before + words.replace(" ", "\n")):
        for shown in (redact_text(text), redact_text(json.dumps({"note": text}))):
            assert not [word for word in words.split() if shows(word, shown)]


def test_k6_no_call_waits_for_the_rules(tmp_path: Path) -> None:
    """They are compiled when a Runtime is made, not in the first call on the event loop."""
    program = """
import sys
from aegis_otel import Policy, Runtime
from aegis_otel.runtime.audit import AuditLogger
from aegis_otel.redaction.secrets import scanner
assert scanner._default.cache_info().currsize == 0
Runtime(policy=Policy.from_dict({"version": "1", "rules": []}), audit_logger=AuditLogger(sys.argv[1]))
print(scanner._default.cache_info().currsize)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "audit")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "1"


TOKEN = "ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
UNSEEN = [
    *("\u200b", "\u00ad", "\u2060", "\ufeff", "\ufe0f", "\u202e", "\u034f", "\U000e0041", "\u180e", "\u3164"),
    *("\u200d\u200c", "\x00", "\x7f", "\\u200b", "\\xad"),
]


@pytest.mark.parametrize("unseen", UNSEEN)
@pytest.mark.parametrize("at", [2, 10, 39])
def test_k6_a_token_with_something_unseen_in_it(unseen: str, at: int) -> None:
    """What no reader sees does not cut a token in two: nothing of it is shown, and all beside it is."""
    text = f"it is {TOKEN[:at]}{unseen}{TOKEN[at:]} now"
    hidden = redact_text(text)
    assert re.fullmatch(r"it is \[REDACTED \d+ chars\] now", hidden)
    assert redact_text(hidden) == hidden
    shown: Any = redact({"a": [text], text: json.dumps({"b": text})})
    assert "F6g7H8i9J0" not in json.dumps(shown)


def test_k6_a_name_with_something_unseen_in_it() -> None:
    """Nor does it make another name of a secret's."""
    assert "hunter2" not in redact_text("pass\u200bword=hunter2hunter2")
    assert "hunter2" not in json.dumps(redact({"pass\u00adword": "hunter2hunter2"}))


@pytest.mark.parametrize(
    "harmless", ["a\u200bb", "👩\u200d🚀 lands", "co\u00adoperate", "x \\\ny", "a=\nb=c"]
)
def test_k6_unseen_characters_alone_are_no_secret(harmless: str) -> None:
    """They stay where no secret is."""
    assert redact_text(harmless) == harmless


@pytest.mark.parametrize("wrap", ["\\\n", "=\n", "=\r\n"])
def test_k6_a_token_that_goes_on_in_the_next_line(wrap: str) -> None:
    """Both parts are hidden, and the break stays: a line's own command is never under a mask."""
    hidden = redact_text(f"it is {TOKEN[:20]}{wrap}{TOKEN[20:]} now")
    assert hidden == f"it is [REDACTED 20 chars]{wrap}[REDACTED 20 chars] now"
    assert f"{wrap}rm -rf /srv" in redact_text(f"# {TOKEN}{wrap}rm -rf /srv")


@pytest.mark.parametrize("before", ["q", "E", "Error", "x9"])
@pytest.mark.parametrize(
    "token",
    [
        *(TOKEN, "npm_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8", "AKIAZ1B2C3D4E5F6G7H8"),
        *("AIzaSyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7R",),
    ],
)
def test_k6_a_token_with_letters_before_it(before: str, token: str) -> None:
    """A token in a word, as in the name of a class, is one as well."""
    assert token not in redact_text(f"raised {before}{token}: no")
    assert token not in redact_text(f"{before}{token}q")


@pytest.mark.parametrize("around", ["random", "words", "tokens"])
def test_k6_secrets_in_long_text_are_found_as_in_short(around: str) -> None:
    """However a long text is looked through, it hides every secret that a short one hides."""
    rng = random.Random(11)
    filling = {
        "random": "\n".join(b64encode(rng.randbytes(57)).decode() for _ in range(260)),
        "words": " ".join(rng.choices(("order", "list", "paid", "status", "market"), k=3_000)),
        "tokens": " ".join("ghp_" + "".join(rng.choices("abcdefXYZ0123456789", k=36)) for _ in range(450)),
    }[around]
    assert len(filling) > 16_384
    for shape, text in list(zip(CORPUS, TEXTS, strict=True))[::9]:
        short = redact_text(f"x\n{text}\n\nx")
        if not any(shows(secret, short) for secret in shape.secrets):
            long = redact_text(f"{filling}\n{text}\n\n{filling}")
            assert not any(shows(secret, long) for secret in shape.secrets), shape.name
