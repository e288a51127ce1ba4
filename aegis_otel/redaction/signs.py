"""What stands between the name of a secret and its value: `=`, `%3D`, `ist`, `", "value": "`."""

from __future__ import annotations

from aegis_otel.redaction.names import NAME_PART
from aegis_otel.redaction.shapes import unbounded

WIDE = "\uff1a|\uff1d"
"""The colon and the equals sign of a Chinese or Japanese keyboard."""
LETTERS = r"[\w.\-\x80-\xff]*"
CLOSED = r"(?:[\"'\\\])]|\\u002[27]|&quot;|%(?:25)?2[27])*"
"""What may stand between a name and its sign; also as an escape of JSON, HTML or a form."""
SIGN = (
    rf"(?:=>|:=|=+|:|{WIDE}|%(?:25)?3[aAdD]|->|<-|\xe2\x86\x92|\xe2\x87\x92|\\u003[aAdD]"
    r"|&\#(?:61|58|x3[aAdD]);|&gt;)"
)
"""What says that the value follows: also as it is written in a form, JSON or HTML, and as an arrow."""
TYPED = r"[ \t]*:?[ \t]*(?:&|mut )?(?:'static )?(?:str|string|String|SecureString|text|char\*?)[ \t]*="
"""The type of a variable, as Rust, Go and others write it."""
OPENED = r"(?:\\u002[27]|&quot;|%(?:25)?2[270])?"
IS = (
    r"(?:(?i:is|was|to|as|ist|lautet|es|est|\xc3[\xa8\xa9]|are|will be|is now|er|\xc3\xa4r|je|on|van|-|/"
    r"|\xe2\x80[\x93\x94]|\xd1\x8d\xd1\x82\xd0\xbe)[ \t]{1,4})"
)
"""Words between a name and its value, in several languages: is, ist, es, est."""
PAIR = (
    rf"{CLOSED}(?:[ \t]*(?:[,;>{{(]|\r?\n|\\n|</[\w:.\-]{{1,40}}>)[ \t]*){{1,4}}"
    rf"(?:[a-z_]{{2,20}}[ \t]*[:=][^\r\n,]{{0,40}}(?:[,;]|\r?\n|\\n)[ \t]*){{0,2}}"
    r"(?:<[A-Za-z\-]{1,20}>|[\"'\\]*(?i:value|val|v|content|default|data|text|parametervalue|secretstring)"
    r"[\"'\\]*[ \t]*[:=])"
)
"""A name that is a value itself, and the value in a place of its own: `name: DB_PASSWORD`, `value: x`."""


def name_part(added: str) -> str:
    """Return the pattern for what makes a name that of a secret, with those that were `added`."""
    return rf"(?:{NAME_PART}|{added})" if added else NAME_PART


def gate(added: str = "") -> str:
    """A pattern found in text wherever a name has a value."""
    part = name_part(added).replace(r"\b", "")
    return (
        rf"{part}(?:{LETTERS}(?:{CLOSED}[ \t]*{SIGN}"
        rf"|\\*[\"'][ \t]+(?i:value)[ \t]*=|\\*[\"'][ \t]*,|[^<>\r\n]*>|{unbounded(PAIR)}|\([ \t]*\\*[\"']"
        rf"|\\*[\"'](?:\r?\n|\\r\\n|\\n){{2}}|{TYPED})"
        rf"|{LETTERS}[ \t]+{IS}?(?:[^\s'\"]*[0-9]|\\*['\"]))"
        rf"|[ \t\"',]--?{LETTERS}{part}"
    )


def json_gate(added: str = "") -> str:
    """A pattern found in JSON wherever a name is in a key or before a value."""
    part = name_part(added).replace(r"\b", "")
    return rf"{part}[^\"\r\n]*(?:\"[^:,}}\]\r\n]+)?\":"


def pair_gate(added: str = "") -> str:
    """A pattern found in JSON wherever a name of a secret is the value of a member such as `name`."""
    part = name_part(added).replace(r"\b", "")
    return (
        r"\"(?i:name|key|k|field|param(?:eter)?(?:key|name)?|variable|var|property|attribute|setting|option|id)"
        rf"\\*\":[ ]?\\*\"{LETTERS}{part}"
    )


_BEHIND_NAME = b" \t:=<>\"'%&(\\,"
_BEHIND_VENDOR = b"=>:,|"


def may_be(data: bytes) -> bool:
    """Whether anything that `gate` has behind a name is in a text. Base64 in lines has none of it."""
    return not data.isascii() or any(sign in data for sign in _BEHIND_NAME)


def may_be_of_vendor(data: bytes) -> bool:
    """Whether anything that `rules.vendors` has behind the name of a vendor is in a text."""
    return any(sign in data for sign in _BEHIND_VENDOR)


WORD_GATE = r"\"(?i:private|unlock|mdp)\\*\":"
"""A pattern for names in JSON that in a text are ordinary words."""
