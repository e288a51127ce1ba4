"""Which names say that their value is a secret: `password`, `apiKey`, `X-Auth-Token`; not `max_tokens`.

A name is taken apart into words, so that `author` is not `auth` and `tokenizer` is not `token`. Ids, counts
and descriptions of a secret are no secrets: `secret_arn`, `token_count`, `credit_card_last_4`.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache
from re import compile as compile_fixed  # fixed-width patterns only, where it is as linear and quicker
from typing import Any, Literal
from unicodedata import category, combining, normalize

import re2

OPTIONS = re2.Options()
"""How every pattern about secrets is compiled: over bytes, so that text that is no UTF-8 hides nothing."""
OPTIONS.encoding = re2.Options.Encoding.LATIN1
OPTIONS.log_errors = False
_MEMORY = 64 << 20
"""Bytes that the states of a set of patterns may take. It fails only if a single state is larger."""


def pattern_set(patterns: Iterable[str]) -> Any:
    """Return what tells in one pass which of these patterns are in a text; it says None for none of them."""
    options = re2.Options()
    options.encoding, options.log_errors, options.max_mem = OPTIONS.encoding, False, _MEMORY
    searched = re2.Set.SearchSet(options)
    for pattern in patterns:
        searched.Add(pattern.encode())
    searched.Compile()
    return searched


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
    r"|(?:security|secret) answers?|priv key|(?:unlock|access|door|alarm|pairing|activation) codes?|cv[vc]2"
    r"|(?:app|application|user|bot|product|activation|pre shared|tls|host|api|registry) keys"
    r"|app(?:lication)? key"
    r"|client assertion|code verifier|saml (?:response|assertion)|connect sid|user pass|login pass"
    r"|nt(?:lm)? hash"
    r"|(?:seed|totp|otp|mfa|2fa) seed|jaas config|sasl jaas config|kata laluan|palabra clave|zugangscode"
    r"|amz signature|(?:db|smtp|ssh|store|key|user|root|admin|ftp|imap|ldap|http|proxy|pg|redis|wifi) pass"
    r"|mysql pass|mot de passe|palavra passe|mat khau|kata sandi|passe"
)
_GLUED = (  # also at the end of a longer word: dbpassword, authtoken
    r"passwords?|passwd|passphrase|passcode|pwd|pswd|pw|secret|token|api keys?|credentials?"
    r"|sessids?|sessionids?|cookies?"
    r"|contrasenh?as?|passwort|kennwort|senha|wachtwoord|haslo|lozinka|geslo|heslo|salasana|losenord|passord"
    r"|adgangskode|jelszo|sifre|motdepasse|parool|slaptazodis|kodeord|lykilord|zaporka|tunnussana"
    r"|contrasenya|contrasinal|pasahitza|cyfrinair|nenosiri|pasvorto|privkey|userpass|psswd|passw|pword"
)
_LAST = r"o?auth(?: (?:header|data|string|value|info|key))?|pin(?: (?:number|_code))?|sig"  # only at the end
_COUNTED = r"tokens|pass|clave|parola"  # numbers of things or other words, unless they hold text
_ALONE = r"sid|seed|private|unlock|mdp"  # only as the whole name


_ALIKE = str.maketrans(
    "абвгеёзікмнорстухјѕԁһпіԛԝѵАВЕЅІЈКМНОРСТУХαβεικνορτυχωΑΒΕΖΗΙΚΜΝΟΡΤΥΧı",
    "abbreezikmhopctyxjsdhniqwvABESIJKMHOPCTYXabeiknoptuxwABEZHIKMNOPTYXi",
)
"""Letters of other scripts that look like Latin ones. A name is looked up as it is written as well."""


def _alike(name: str) -> str:
    """Return `name` with Latin letters where others look like them, and without invisible characters."""
    return _unaccented("".join(char for char in name if category(char) != "Cf")).translate(_ALIKE)


def _unaccented(name: str) -> str:
    plain = "".join(char for char in normalize("NFKD", name) if not combining(char))
    return plain.replace("ł", "l").replace("Ł", "L").replace("đ", "d").replace("\u0131", "i")


SCRIPTS = (
    *("лозинк", "პაროლ", "գաղտնաբառ", "পাসওয়ার্ড", "கடவுச்சொல்", "رمز عبور", "گذرواژه", "合言葉", "暗号鍵"),
    *("парол", "密码", "密碼", "口令", "暗証番号", "パスワード", "비밀번호", "암호", "รหัสผ่าน", "पासवर्ड"),
    *("كلمة المرور", "كلمة السر", "סיסמה", "סיסמא", "κωδικο", "συνθηματικο"),
)
"""Words that a pattern has as they are; also those of `shapes` that know what is said without a sign."""
_FOLDED = tuple(_unaccented(word) for word in SCRIPTS)
_ACCENTED = r"contraseñas?|hasło|şifre|lösenord|jelszó|mật khẩu|mot de passe"
_IN_TEXT = (  # as they are written, before accents are taken off
    *SCRIPTS,
    *("Парол", "ПАРОЛ", "κωδικός", "Κωδικός", "συνθηματικό"),
)

_CLOSE = {  # letters of other scripts that look the same, in a text
    "a": "\u0430", "c": "\u0441", "d": "\u0501", "e": "\u0435", "h": "\u04bb", "i": "\u0456\u0131", "k":
    "\u043a", "n": "\u043f", "o": "\u043e\u03bf", "p": "\u0440\u03c1", "r": "\u0433", "s": "\u0455",
    "t": "\u0442", "w": "\u051d", "y": "\u0443",
}  # fmt: skip
_INVISIBLE = r"(?:\xe2(?:\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf])|\xc2\xad|\xef\xbb\xbf|\xd8\x9c)*"


def _look_alike(word: str) -> str:
    """Return a pattern for a word in other letters, in full width or with what is invisible."""
    letters = []
    for char in word:
        place = ord(char) - 97
        close = "|".join("".join(rf"\x{byte:02x}" for byte in each.encode()) for each in _CLOSE.get(char, ""))
        wide = rf"\xef(?:\xbc\x{0xA1 + place:02x}|\xbd\x{0x81 + place:02x})|\xf0\x9d[\x90-\x9f][\x80-\xbf]"
        letters.append(rf"(?:(?i:{char})|{wide}{'|' + close if close else ''})")
    return _INVISIBLE.join(letters)


_ALIKE_IN_TEXT = "|".join(
    _look_alike(word)
    for word in ("password", "passwd", "passphrase", "passcode", "secret", "token", "apikey", "credential")
)

_PARTS = rf"{_WORDS}|{_GLUED}|{_LAST}|{_COUNTED}".replace(" ", r"[ _.\-0-9]*").replace(
    "_code", "[_.\\- ]code"
)
NAME_PART = (
    rf"(?:(?i:{_PARTS}|{_ACCENTED}|\bsid\b|\bseed\b)|[A-Z0-9]_KEY|{'|'.join(_IN_TEXT)}|{_ALIKE_IN_TEXT})"
    # A name that was added is looked for by `text.Engine`, which knows the settings.
)
"""A pattern found in every name that `held_by` does not say "no" to, and in some others."""
NAME_CLUE = (
    r"(?i:pass|pw|pswd|psswd|secret|token|[a-z0-9_.\- ]key|key[ _.\-0-9]*data|(?:ty|ion|fa|tp|ms|me|ry"
    r"|up|ck|ess|or|rm|ng)[ _.\-0-9]*code|cred|auth|bearer|jwt|[cx]srf|cookie|sess(?:ion)?id|(?:github"
    r"|gitlab|gh|azure|ado|devops)[ _.\-0-9]*pat|sid|pem|psk|sas|private|ssn|social|card[ _.\-0-9]*n"
    r"|(?:credit|debit)[ _.\-0-9]*card|cc[ _.\-0-9]*num|cv[vcn]|otp|dsn|conn(?:ection)?[ _.\-0-9]*str"
    r"|phrase|words|mnemonic|answer|assertion|verifier|saml|nt[ _.\-0-9]*hash|ntlm|seed|jaas|kata|clave"
    r"|zugang|sig|pin|khau|contras|kennwort|senha|wachtwoord|haslo|lozinka|geslo|heslo|salasana|losenord"
    r"|adgangskode|jelszo|sifre|parool|parola|slaptazodis|kodeord|lykilord|zaporka|tunnussana|pasahitza"
    r"|cyfrinair|nenosiri|pasvorto)|[\x80-\xff]"
)
"""A pattern found wherever `NAME_PART` is. It has few states, whatever text it is looked for in."""

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
    if found is None and not name.isascii():
        letters = _other.sub("|", normal(_alike(name)))
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
