"""Which names say that their value is a secret: `password`, `apiKey`, `X-Auth-Token`; not `max_tokens`.

A name is taken apart into words, so that `author` is not `auth` and `tokenizer` is not `token`.
"""

from __future__ import annotations

from functools import lru_cache
from re import compile as compile_fixed  # fixed-width patterns only, where it is as linear and quicker
from typing import Literal

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
    r"|(?:service|deploy|session|client|consumer|subscription|license|recovery) keys?"
    r"|creds?|authori[sz]ation|bearer|jwts?|[cx]srf|set cookie"
    r"|ssn|social security(?: (?:number|num|no))?"
    r"|card (?:number|num|no)|(?:credit|debit) card|cc (?:number|num)|cv[vcn]|otp|totp"
    r"|(?:security|verification|mfa|otp|totp|sms|auth|one time|recovery|backup) codes?"
    r"|dsn|conn(?:ection)? str(?:ing)?|seed phrase|mnemonic|amz signature"
)
_GLUED = (  # also at the end of a longer word: dbpassword, authtoken
    r"passwords?|passwd|passphrase|passcode|pwd|secret|token|api keys?|credentials?"
    r"|sess(?:ion)? ?ids?|cookies?"
)
_LAST = r"o?auth(?: (?:header|data|string|value|info|key))?|pin(?: (?:code|number))?|sig"  # only at the end
_COUNTED = r"tokens|pass"  # numbers of things, unless they hold text

NAME_PART = rf"(?:(?i:{_WORDS}|{_GLUED}|{_LAST}|{_COUNTED})|[A-Z0-9]_KEY)".replace(" ", r"[ _.\-0-9]*")
"""A pattern found in every name that `held_by` does not say "no" to, and in some others."""

_name = re2.compile(
    (
        rf"((?:^|[_|])(?:[a-z]*(?:{_GLUED})|{_WORDS})(?:[_|]|$)|(?:^|[_|])(?:{_LAST})$)"
        rf"|(?:^|[_|])(?:{_COUNTED})(?:[_|]|$)"
    )
    .replace(" ", "_?")
    .encode(),
    OPTIONS,
)
_break = compile_fixed(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[ _.\-0-9]+")
_other = compile_fixed(r"[^a-z_]")

# Names that speak about a secret and do not hold it: token_count, password_policy, max_token.
_ABOUT_LAST = frozenset(
    (
        *("count", "counts", "limit", "limits", "budget", "usage", "length", "len", "size", "type", "types"),
        *("policy", "policies", "method", "methods", "mode", "enabled", "required", "scope", "scopes"),
        *("file", "path", "dir", "url", "uri", "endpoint", "consent"),
        *("expiry", "expiration", "expires", "ttl", "at", "in", "version", "name", "names"),
    )
)
_ABOUT_FIRST = frozenset(("max", "min", "num", "total", "is", "has"))
_ABOUT_PAIR = (["page", "token"], ["continuation", "token"], ["key", "id"])
_variable = compile_fixed(r"[A-Z0-9_]+_KEY")  # of an environment: STRIPE_KEY
_NO_VARIABLE = frozenset(("public", "primary", "foreign", "unique", "sort", "partition", "cache", "index"))
_SHORT = 100  # characters of a name that is worth remembering


def held_by(name: str) -> Held:
    """Whether a value of this name is a secret."""
    return _held_by_short(name) if len(name) <= _SHORT else _held_by(name)


def _held_by(name: str) -> Held:
    words = [word for word in _break.split(name) if word]
    normal = _other.sub("|", "_".join(words).lower())
    found = _name.search(normal.encode())
    if found is None:
        named = _variable.fullmatch(name) is not None and _NO_VARIABLE.isdisjoint(normal.split("_"))
        return "text" if named else "no"
    parts = normal.replace("|", "_").strip("_").split("_")
    if parts[-1] in _ABOUT_LAST or parts[0] in _ABOUT_FIRST or parts[-2:] in _ABOUT_PAIR:
        return "no"
    return "text" if found.group(1) is None else "any"


_held_by_short = lru_cache(maxsize=4096)(_held_by)
