"""Which names say that their value is a secret: `password`, `apiKey`, `X-Auth-Token`; not `max_tokens`.

A name is taken apart into words, so that `author` is not `auth` and `tokenizer` is not `token`. Ids, counts
and descriptions of a secret are no secrets: `secret_arn`, `token_count`, `credit_card_last_4`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import lru_cache
from re import compile as compile_fixed  # fixed-width patterns only, where it is as linear and quicker
from typing import Literal
from unicodedata import combining, normalize

import re2

OPTIONS = re2.Options()
"""How every pattern about secrets is compiled: over bytes, so that text that is no UTF-8 hides nothing."""
OPTIONS.encoding = re2.Options.Encoding.LATIN1
OPTIONS.log_errors = False

Held = Literal["no", "text", "any"]
"""What a name says of its value: no secret; a secret if it is text; a secret."""

# A space is a break between words: `api key` stands for api_key, apiKey, API-KEY, apikey.
_WORDS = (
    r"pass (?:word|wd|phrase|code|key)s?|password(?:hash|text|value|confirm(?:ation)?)|secrets"
    r"|(?:access|private|secret|encryption|decryption|signing|master|ssh|hmac|shared|storage|account) keys?"
    r"|(?:service|deploy|client|consumer|subscription|licen[cs]e|recovery|unseal|functions|auth) keys?"
    r"|(?:session|preshared|pre shared|wireguard|wallet|webhook|jwt|enc|crypt|cipher) keys?"
    r"|(?:stripe|openai|anthropic|aws|azure|gcp|google|github|gitlab|slack|twilio|sendgrid|mailgun) key"
    r"|(?:mapbox|cloudflare|heroku|algolia|pinecone|cohere|mistral|groq|gemini|llm|maps|sentry|datadog) key"
    r"|secret key base|key data|(?:github|gitlab|gh|azure|ado|devops) pat|(?:connect|php|auth) sid"
    r"|creds?|authori[sz]ation|bearer|jwts?|[cx]srf|set cookie|pem|psk|sas|private mac"
    r"|ssn|social security(?: (?:number|num|no))?"
    r"|card (?:number|num|no)|(?:credit|debit) card|cc (?:number|num)|cv[vcn]|otp|totp"
    r"|(?:security|verification|mfa|otp|totp|sms|auth|one time|recovery|backup) codes?"
    r"|dsn|conn(?:ection)? str(?:ing)?|(?:seed|recovery|backup|secret|wallet) (?:phrase|words)|mnemonic"
    r"|amz signature|(?:db|smtp|ssh|store|key|user|root|admin|ftp|imap|ldap|http|proxy|pg|redis|wifi) pass"
    r"|mysql pass|mot de passe|palavra passe|mat khau|kata sandi|passe"
)
_GLUED = (  # also at the end of a longer word: dbpassword, authtoken
    r"passwords?|passwd|passphrase|passcode|pwd|pswd|pw|secret|token|api keys?|credentials?"
    r"|sessids?|sessionids?|cookies?"
    r"|contrasenh?as?|passwort|kennwort|senha|wachtwoord|haslo|lozinka|geslo|heslo|salasana|losenord|passord"
    r"|adgangskode|jelszo|sifre|motdepasse|parool"
)
_LAST = r"o?auth(?: (?:header|data|string|value|info|key))?|pin(?: (?:number|_code))?|sig"  # only at the end
_COUNTED = r"tokens|pass|clave|parola"  # numbers of things or other words, unless they hold text
_ALONE = r"sid|seed"  # only as the whole name


def _unaccented(name: str) -> str:
    plain = "".join(char for char in normalize("NFKD", name) if not combining(char))
    return plain.replace("ł", "l").replace("Ł", "L").replace("đ", "d").replace("\u0131", "i")


_SCRIPTS = (
    *("парол", "密码", "密碼", "口令", "暗証番号", "パスワード", "비밀번호", "암호", "รหัสผ่าน", "पासवर्ड"),
    *("كلمة المرور", "كلمة السر", "סיסמה", "סיסמא", "κωδικο", "συνθηματικο"),
)
_FOLDED = tuple(_unaccented(word) for word in _SCRIPTS)
_ACCENTED = r"contraseñas?|hasło|şifre|lösenord|jelszó|mật khẩu|mot de passe"
_IN_TEXT = (  # as they are written, before accents are taken off
    *_SCRIPTS,
    *("Парол", "ПАРОЛ", "κωδικός", "Κωδικός", "συνθηματικό"),
)

_PARTS = rf"{_WORDS}|{_GLUED}|{_LAST}|{_COUNTED}".replace(" ", r"[ _.\-0-9]*").replace(
    "_code", "[_.\\- ]code"
)
NAME_PART = (
    rf"(?:(?i:{_PARTS}|{_ACCENTED}|\bsid\b|\bseed\b)|[A-Z0-9]_KEY|{'|'.join(_IN_TEXT)})"
    # A name that was added is looked for by `text.Engine`, which knows the settings.
)
"""A pattern found in every name that `held_by` does not say "no" to, and in some others."""

_name = re2.compile(
    (
        rf"((?:^|[_|])(?:[a-z]*(?:{_GLUED})|{_WORDS})(?:[_|]|$)|(?:^|[_|])(?:{_LAST})$|^(?:{_ALONE})$)"
        rf"|(?:^|[_|])(?:{_COUNTED})(?:[_|]|$)"
    )
    .replace(" ", "_?")
    .replace("__code", "_code")
    .replace("_?_code", "_code")
    .encode(),
    OPTIONS,
)
_break = compile_fixed(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[ _.\-0-9]+")
_stars = compile_fixed(r"([*?])")
_other = compile_fixed(r"[^a-z_]")

# Names that speak about a secret and do not hold it: token_count, password_policy, max_token.
_ABOUT_LAST = frozenset(
    (
        *("count", "counts", "limit", "limits", "budget", "usage", "length", "len", "size", "type", "types"),
        *("policy", "policies", "method", "methods", "mode", "enabled", "required", "scope", "scopes"),
        *("file", "path", "dir", "url", "uri", "endpoint", "consent", "host", "port", "domain", "user"),
        *("expiry", "expiration", "expires", "ttl", "at", "in", "out", "version", "name", "names"),
        *("id", "ids", "arn", "symbol", "symbols", "address", "ref", "reference", "last", "digits", "brand"),
        *("month", "year", "status", "state", "index", "idx", "prefix", "suffix", "hint", "label", "title"),
        *("description", "provider", "format", "algorithm", "alg", "class", "kind", "area", "manager"),
        *(
            "rules",
            "strength",
            "field",
            "column",
            "env",
            "variable",
            "decimals",
            "price",
            "amount",
            "balance",
        ),
        *(
            "network",
            "chain",
            "rotation",
            "region",
            "fingerprint",
            "thumbprint",
            "reset",
            "changed",
            "issuer",
        ),
    )
)
_ABOUT_FIRST = frozenset(("max", "min", "num", "total", "is", "has", "no", "count"))
_ABOUT_PAIR = (["key", "id"],)
_NO_CREDENTIAL = frozenset(  # what stands before `token` where it is a place in a list, a coin or a word
    (
        *("page", "continuation", "next", "previous", "prev", "from", "to", "sync", "start", "end", "base"),
        *(
            "quote",
            "input",
            "output",
            "sell",
            "buy",
            "stop",
            "eos",
            "bos",
            "pad",
            "mask",
            "unk",
            "cls",
            "sep",
        ),
        *("special", "first", "last", "per", "nft", "native", "reward", "staking", "collateral", "source"),
        *(
            "destination",
            "target",
            "pool",
            "lp",
            "wrapped",
            "underlying",
            "cancellation",
            "resume",
            "pagination",
        ),
        *("marker", "syntax", "erc"),
    )
)
_variable = compile_fixed(r"[A-Z0-9_]+_KEY")  # of an environment: STRIPE_KEY
_NO_VARIABLE = frozenset(
    (
        *("public", "primary", "foreign", "unique", "sort", "partition", "cache", "index", "row", "map"),
        *("group", "lookup", "search", "idempotency", "routing", "hot", "natural", "composite", "pub"),
    )
)
_SHORT = 100  # characters of a name that is worth remembering

_added: tuple[str, ...] = ()
_exempt: tuple[str, ...] = ()


def normal(name: str) -> str:
    """Return `name` as lower-case words between underscores: `apiKey` and `API-KEY` are `api_key`."""
    folded = name if name.isascii() else _unaccented(name)
    words = "_".join(word for word in _break.split(folded) if word).lower()
    return words.strip("_")


def normal_glob(name: str) -> str:
    """`normal` of a glob: its `*` and `?` stay."""
    parts = _stars.split(name)
    if len(parts) == 1:
        return normal(name)
    return "".join(
        part
        if part in ("*", "?")
        else f"{'_' * part.startswith('_')}{normal(part)}{'_' * part.endswith('_')}"
        for part in parts
    )


def configure(added: tuple[str, ...], exempt: tuple[str, ...]) -> None:
    """Take over names from settings, in the form that `normal` gives; `exempt` may be globs."""
    global _added, _exempt
    _added, _exempt = added, exempt
    _held_by_short.cache_clear()


def held_by(name: str) -> Held:
    """Whether a value of this name is a secret."""
    return _held_by_short(name) if len(name) <= _SHORT else _held_by(name)


def _held_by(name: str) -> Held:
    words = normal(name)
    if any(fnmatchcase(words, pattern) for pattern in _exempt):
        return "no"
    if any(f"_{own}_" in f"_{words}_" for own in _added):
        return "any"
    if not words.isascii() and any(script in words.replace("_", " ") for script in _FOLDED):
        return "any"
    letters = _other.sub("|", words)
    found = _name.search(letters.encode())
    if found is None:
        named = _variable.fullmatch(name) is not None and _NO_VARIABLE.isdisjoint(letters.split("_"))
        return "text" if named else "no"
    parts = letters.replace("|", "_").strip("_").split("_")
    if parts[-1] in _ABOUT_LAST or parts[0] in _ABOUT_FIRST or parts[-2:] in _ABOUT_PAIR:
        return "no"
    if parts[-1] == "token" and len(parts) > 1 and parts[-2] in _NO_CREDENTIAL:
        return "no"
    return "text" if found.group(1) is None else "any"


_held_by_short = lru_cache(maxsize=4096)(_held_by)
