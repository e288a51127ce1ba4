"""Redaction that nobody steers and a human can read through (K3), and its settings."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aegis_otel import Action, ConfigError, Policy, Runtime
from aegis_otel.redaction.masks import MASK_BEGINNING
from aegis_otel.redaction.redactor import redact, redact_text
from aegis_otel.runtime.audit import AuditLogger

POLICY: dict[str, Any] = {"version": "1", "defaults": {"risk_level": "low", "approval": "auto"}, "rules": []}
RUNS = "rm -rf /"


LONGEST = 1_024
"""Characters that one mask may hide where there are blanks among them."""


@pytest.fixture
def settings() -> Iterator[Any]:
    """The module of the settings, which hold for the process; afterwards the default ones hold again."""
    found = importlib.import_module("aegis_otel.redaction.settings")
    yield found
    found.apply(found.Settings())


@pytest.mark.parametrize(
    "text",
    [
        *("ls # password=[\n{}", "ls # password=(\n{}\n)", 'ls # password="\n{}\n"', "ls # token='\n{}"),
        *("password='''\n{}\n'''", "password=x; {}", "password=x;{}", "password=x && {}", "password=x|{}"),
        *(
            "# -----BEGIN PRIVATE KEY-----\n{}",
            "# -----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        ),
        *("password: |\n  {}\n", "# secret: >-\n    {}", "Authorization: Bearer x; {}", "Cookie: a=b; {}"),
        *("curl -u a:b; {}", "mysql -p x; {}", "mysql -u root -px && {}", "auth={{a; {}}}", "auth=[a\n{}]"),
        *("echo 'a password=\"'; {}; echo '\"'", 'echo "a password="; {}; echo "b"', "password=`{}`"),
        *('password="$({})"', "token=$({})", "<password>x\n{}</password>", "--password x; {}"),
        *("IDENTIFIED BY 'x\n{}'", 'password=\\"; {}; echo \\"', "https://a:b; {}; @c", "pin: 'a\n{}\n'"),
        *("insert into t (password) values ('x\n{}')", 'Authorization: Digest a="\n{}"'),
    ],
)
def test_k3_what_runs_is_shown(text: str) -> None:
    """No comment, quote, bracket or header in front of a command hides it."""
    command = text.format(RUNS)
    assert RUNS in redact_text(command)
    shown: Any = redact({"command": command})
    assert RUNS in shown["command"]


def test_k3_a_word_behind_an_operator_is_shown() -> None:
    """Only behind a `;` can a word still belong to the value, and no variable or path does."""
    assert "rm${IFS}-rf" in redact_text("pass=a||rm${IFS}-rf")
    assert "x${IFS}y" in redact_text("password=a;x${IFS}y")
    assert "$(rm${IFS}-rf${IFS}/srv)" in redact_text("echo password={a,$(rm${IFS}-rf${IFS}/srv)}")
    assert "`rm${IFS}-rf`" in redact_text("echo token=[a,`rm${IFS}-rf`]")
    assert redact_text("password=ab;cd") == "password=[REDACTED 2 chars];[REDACTED 2 chars]"


def test_k3_a_mask_says_how_much_it_hides() -> None:
    """In characters."""
    assert redact_text("password=hunter2 x") == "password=[REDACTED 7 chars] x"
    assert redact_text("password='héllo' x") == "password='[REDACTED 5 chars]' x"
    assert redact({"password": "hunter2"}) == {"password": "[REDACTED 7 chars]"}


def test_k3_a_mask_of_a_structure_says_its_kind() -> None:
    """The model chooses the names of an open dict: `auth` may hold a command, which a yes then runs."""
    asked: Any = {
        "auth": "rm -rf /",
        "password": {"cmd": "rm -rf /"},
        "token": ["rm", "-rf"],
        "pin": 4829,
        "secret": None,
    }
    shown = redact(asked)
    assert shown == {
        "auth": "[REDACTED 8 chars]",
        "password": "[REDACTED object 18 chars]",
        "token": "[REDACTED list 12 chars]",
        "pin": "[REDACTED 4 chars]",
        "secret": None,
    }
    assert redact(shown) == shown
    assert redact_text(json.dumps(asked)) == json.dumps(shown, separators=(",", ":"))
    assert redact_text("password=[REDACTED list 12 chars]") == "password=[REDACTED list 12 chars]"


pieces = st.lists(
    st.sampled_from(
        [
            *(
                "password=",
                "token: ",
                "secret='",
                'api_key="',
                "--password ",
                "auth=[",
                "Cookie: a=",
                "pwd=(",
            ),
            *("Authorization: Bearer ", "-----BEGIN PRIVATE KEY-----", "curl -u a:", "mysql -p ", "://a:b@"),
            *("'", '"', "]", ")", "\\", "x", "Ab1!cdef", " ", "#", "password: |\n  ", "IDENTIFIED BY '"),
            *("\n", ";", "|", "&", "`", "$(", "\n", "; "),
        ]
    ),
    max_size=25,
).map("".join)


@given(pieces, pieces)
def test_k3_no_line_behind_a_secret_is_covered(before: str, after: str) -> None:
    """Whatever stands around it, a command in a line of its own can be read."""
    assert f"{RUNS} now" in redact_text(f"{before}\n{RUNS} now\n{after}")


@given(pieces)
def test_k3_newlines_survive(text: str) -> None:
    """Lines are neither joined nor hidden, but for those of a key behind its header."""
    assume("-----BEGIN" not in text)
    assert redact_text(text).count("\n") == text.count("\n")


@given(st.sampled_from(["password='", 'password="', "auth=[", "password="]), st.integers(2_000, 9_000))
def test_k3_spans_are_bounded(opening: str, size: int) -> None:
    """What has blanks in it and is longer than the bound is shown from there on."""
    text = f"{opening}{'words and more ' * size}"
    shown = redact_text(text)
    assert len(text) - len(shown) <= LONGEST
    assert shown.endswith(text[LONGEST + len(opening) :])


VISIBLE = [
    *("from_token", "to_token", "token_symbol", "session_id", "secret_arn", "credit_card_account_id"),
    *("credit_card_last_4", "pincode", "max_tokens", "token_count", "next_token", "page_token", "key_id"),
    *("public_key", "primary_key", "keyboard", "author", "secretary", "passenger", "compass", "bypass"),
    *("token_id", "token_address", "secret_name", "password_policy", "cookie_consent", "base_token"),
]


@pytest.mark.parametrize("name", VISIBLE)
def test_k3_ids_and_ordinary_words_stay_visible(name: str) -> None:
    assert redact({name: "abc-1"}) == {name: "abc-1"}
    assert redact_text(f"{name}=abc-1") == f"{name}=abc-1"


HIDDEN = [
    *("pw", "DB_PW", "stripe_key", "sid", "pem", "passphrase", "contraseña", "mot_de_passe", "passwort"),
    *("kennwort", "senha", "wachtwoord", "hasło", "lozinka", "пароль", "密码", "パスワード", "비밀번호"),
]


@pytest.mark.parametrize("name", HIDDEN)
def test_k3_names_of_secrets_in_several_languages(name: str) -> None:
    assert redact({name: "Abc-1"}) == {name: "[REDACTED 5 chars]"}
    assert redact_text(f"{name}=Abc-1") == f"{name}=[REDACTED 5 chars]"


def test_k3_settings_add_and_exempt(settings: Any) -> None:
    """Names and patterns to hide, names and rules to leave."""
    said = {
        "names": ["iban"],
        "exempt_names": ["swap_token", "*_cookie"],
        "patterns": [r"\bEMP-(\d{6})\b"],
        "exempt_rules": ["twilio-api-key"],
    }
    before: Any = {
        "customerIban": "DE1",
        "swap_token": "x",
        "tea_cookie": "oat",
        "note": "EMP-123456 iban=DE2",
    }
    assert redact(before)["customerIban"] == "DE1"  # type: ignore[index, call-overload]
    settings.apply(settings.parse(said))
    assert redact(before) == {
        "customerIban": "[REDACTED 3 chars]",
        "swap_token": "x",
        "tea_cookie": "oat",
        "note": "EMP-[REDACTED 6 chars] iban=[REDACTED 3 chars]",
    }
    assert redact({"lines": "a\nEMP-123456\nb"}) == {"lines": "a\nEMP-[REDACTED 6 chars]\nb"}
    assert redact({"password": "x"}) == {"password": "[REDACTED 1 chars]"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], "`redaction` is a `list`"),
        ({"name": ["x"]}, "unknown `name` (did you mean `names`?)"),
        ({"names": "iban"}, "`redaction.names` is a `str`: expected a list"),
        ({"names": [1]}, "`redaction.names[0]`"),
        ({"names": ["__"]}, "`redaction.names[0]`"),
        ({"patterns": ["(a"]}, "`redaction.patterns[0]` is no pattern"),
        ({"patterns": [r"(?=a)"]}, "`redaction.patterns[0]` is no pattern"),
        ({"patterns": [".*"]}, "matches almost anything"),
        ({"patterns": ["a" * 1001]}, "`redaction.patterns[0]`"),
        ({"exempt_rules": ["twilio-key"]}, "which is no rule"),
        ({"names": ["a"] * 201}, "at most 200"),
    ],
)
def test_k3_settings_that_cannot_work_are_refused(settings: Any, said: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        settings.parse(said)


@pytest.mark.usefixtures("settings")
async def test_k3_settings_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file that the environment names; the digest on the row tells one set from another."""
    file = tmp_path / "redaction.yaml"
    file.write_text("names: [iban]\n", encoding="utf-8")
    monkeypatch.setenv("AEGIS_REDACTION", str(file))
    digests = []
    for number, redaction in enumerate((str(file), {"names": ["iban"]}, {})):
        audit = AuditLogger(tmp_path / f"audit{number}")
        runtime = Runtime(policy=Policy.from_dict(POLICY), audit_logger=audit, redaction=redaction)
        audit.log("s", runtime.policy.evaluate(Action("a", "b", {"iban": "DE1"})))
        (row,) = audit.get_log()
        digests.append(row["redaction_digest"])
        assert ("DE1" in str(row["action_params"])) == (number == 2)
    assert digests[0] == digests[1] != digests[2]
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest or "") for digest in digests)


@pytest.mark.usefixtures("settings")
def test_k3_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """By its name and its line."""
    file = tmp_path / "redaction.yaml"
    for text, message in (
        ("names: [", "line 1"),
        ("names: x", "redaction.yaml.names"),
        ("- a", "is a `list`"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            Runtime(policy=Policy.from_dict(POLICY), redaction=file)
    with pytest.raises(ConfigError, match="cannot be read"):
        Runtime(policy=Policy.from_dict(POLICY), redaction=tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "code",
    [
        "self._pwd = pwd",
        "connect(db_password=password)",
        "def read(self, name, pwd=None):\n    pass",
        'raise TypeError("pwd: expected bytes, got %s" % type(pwd))',
        "password = bytes(memoryview(password))",
        "token = os.getenv(name(prefix))",
    ],
)
def test_k3_code_without_secrets_stays(code: str) -> None:
    """Whoever approves a patch reads the code."""
    assert redact_text(code) == code


@pytest.mark.parametrize(
    "code", ["pwd='hunter2'):", "DB_PASSWORD=mypassword1", "pwd: hunter2", "_pwd = 4pwd9x"]
)
def test_k3_code_with_secrets_is_hidden_holds(code: str) -> None:
    assert MASK_BEGINNING in redact_text(code)


def test_k3_what_an_id_is_called_holds() -> None:
    """What was right stays right."""
    shown: Any = redact({"password": "Abc-1", "tokenizer": "cl100k"})
    assert (shown["password"][:9], shown["tokenizer"]) == ("[REDACTED", "cl100k")
