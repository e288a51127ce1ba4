"""`url_host`: the host that a URL leads to.

The reading is that of the WHATWG's URL standard, by ada. The host is known only where a plain reading by RFC
3986, like that of Python's `urllib`, gives the same: a tool may use another library than we do. Names are
compared in their ASCII form (`xn--...`). Nothing is asked of DNS, so two names of one machine are two hosts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from aegis_otel.policy.messages import Invalid, shown
from aegis_otel.policy.operators.answer import Answer, not_of_kind
from aegis_otel.policy.operators.lists import check_items, texts
from aegis_otel.redaction.name_forms import normalized

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
"""The schemes that are judged, with their default ports."""
_LONGEST_HOST = 253
"""Characters of a name in DNS."""
_LONGEST_LABEL = 63
"""Characters of a part of a name between dots; to encode those that are not ASCII makes it longer."""
_LONGEST_AUTHORITY = 1024

_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# All readers agree about a URL of this shape. Its last label begins with a letter: it is no IPv4 address.
_PLAIN = re.compile(
    rf"(https?|wss?|ftp)://(?![^/:]*xn--)((?:{_LABEL}\.)*+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?)"
    r"(?::([1-9][0-9]{0,3}))?(?:/[!-\[\]-~]*+)?"
)
_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_IPV6 = re.compile(r"\[[0-9a-f:]+\]")
# An IPv4 address within an IPv6 one: mapped, compatible, translated (NAT64) or tunnelled (6to4).
_HOLDS_IPV4 = re.compile(r"\[(?:::(?:ffff:(?:0:)?)?[0-9a-f]{1,4}:[0-9a-f]{1,4}|64:ff9b:.*|2002:.*)\]")
_UNREADABLE = re.compile(
    r"[\x00-\x20\x7f-\xa0\\\s\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_SPLIT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?([^/?#]*)")
_USER = re.compile(r"[A-Za-z0-9._~+-]*(?::[A-Za-z0-9._~+-]*)?")
_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")

_NOT_A_URL = "the value is not an absolute URL with a scheme"
_INVALID = "the value is not a valid URL"
_HIDDEN = "the URL has a space, a backslash, or a control or invisible character"
_OTHER_SCHEME = f"the URL's scheme is none of {', '.join(_PORTS)}"
_DISAGREE = "programs may disagree about the host of the URL"
_IPV4_IN_IPV6 = "the URL's host is an IPv6 address that stands for an IPv4 address"
_FINAL_DOT = "the URL's host ends with a dot"


class Hosts(NamedTuple):
    """The hosts of a `url_host`. A name that begins with a dot stands for all names that end with it."""

    names: frozenset[str]
    suffixes: tuple[str, ...]
    with_port: frozenset[tuple[str, int]]
    """The names and suffixes that are allowed on one port only."""


HOSTS = texts(_LONGEST_HOST + 8)


def check_hosts(value: object) -> list[str]:
    """Check the hosts of `url_host`, and return them in their ASCII form. Raises Invalid."""
    return check_items(value, _check_host, "a list of hosts")


def _check_host(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid(f"must be a host, like `api.example.org` or `*.example.com`, not {shown(value)}")
    if "://" in value or "/" in value or "@" in value:
        found = read_host(value if "://" in value else f"https://{value}")
        raise Invalid(f"must be a host, not {shown(value)}", None if isinstance(found, str) else found[0])
    name = value.removeprefix("*.")
    if "*" in name:
        raise Invalid(
            f"must have `*` as the whole first label only, as in `*.example.com`, not {shown(value)}"
        )
    if name.count(":") > 1 and not name.startswith("["):
        raise Invalid(f"must have an IPv6 address in brackets, not {shown(value)}", f'"[{value}]"')
    found = read_host(f"https://{name}/")
    if isinstance(found, str) or found[0].endswith("."):
        reason = found if isinstance(found, str) else _FINAL_DOT
        raise Invalid(f"must be a host that every program reads alike, not {shown(value)}: {reason}")
    host, port = found
    is_wild = name != value
    if is_wild and (host[0] == "[" or host.rpartition(".")[2].isdigit()):
        raise Invalid(f"must be a whole address, not {shown(value)}: an address has no subdomains")
    return f"{'*.' if is_wild else ''}{host}{f':{port}' if _states_port(value) else ''}"


def _states_port(host: str) -> bool:
    return ":" in host.rpartition("]")[2]


def prepare_hosts(hosts: Sequence[str]) -> Hosts:
    """Return the checked hosts of a `url_host` as `leads_to` needs them."""
    texts = [host.removeprefix("*") for host in hosts]
    plain = [text for text in texts if not _states_port(text)]
    with_port = [text.rpartition(":") for text in texts if _states_port(text)]
    return Hosts(
        frozenset(plain),
        tuple(text for text in plain if text[0] == "."),
        frozenset((name, int(port)) for name, _, port in with_port),
    )


def leads_to(value: Any, hosts: Hosts) -> Answer:
    """Return whether the host of the URL `value` is one of `hosts`."""
    plain = _PLAIN.fullmatch(value) if isinstance(value, str) else None
    if plain is not None and len(plain[2]) <= _LONGEST_HOST:
        return _is_among(hosts, plain[2], int(plain[3] or 0) or _PORTS[plain[1]])
    found = read_host(value)
    if isinstance(found, str):
        return found
    host, port = found
    if _is_among(hosts, host, port):
        return True
    if host.endswith("."):
        return _FINAL_DOT if _is_among(hosts, host[:-1], port) else False
    return _IPV4_IN_IPV6 if _HOLDS_IPV4.fullmatch(host) else False


def _is_among(hosts: Hosts, host: str, port: int) -> bool:
    if host in hosts.names or host.endswith(hosts.suffixes):
        return True
    return bool(hosts.with_port) and any(
        port == each and (host == name or (name[0] == "." and host.endswith(name)))
        for name, each in hosts.with_port
    )


def read_host(value: Any) -> tuple[str, int] | str:
    """Return the host of the URL `value` in its ASCII form, and its port; or why it is not known."""
    if not isinstance(value, str):
        return not_of_kind(value, "text")
    if _UNREADABLE.search(value):
        return _HIDDEN
    parts = _SPLIT.match(value)
    if parts is None:
        return _NOT_A_URL
    scheme, slashes, authority = parts[1].lower(), parts[2], parts[3]
    if scheme not in _PORTS:
        return _NOT_A_URL if "." in scheme or scheme == "localhost" else _OTHER_SCHEME
    if not slashes or not authority or len(authority) > _LONGEST_AUTHORITY:
        return _DISAGREE if len(authority) <= _LONGEST_AUTHORITY else _INVALID
    rest = value[parts.end() :]
    user, _, place = authority.rpartition("@")
    host = _HOST_AND_PORT.fullmatch(place)
    # Old readers end the host at a slash only, or take another `@`.
    if host is None or not _USER.fullmatch(user) or ("@" in rest and rest[0] != "/"):
        return _DISAGREE
    return _agreed(f"{scheme}://{authority}/", host[1], _PORTS[scheme])


def _agreed(url: str, host: str, default_port: int) -> tuple[str, int] | str:
    """Return the host of `url` and its port, where the URL standard reads the host as the text `host`."""
    if _is_too_long(host):
        return _DISAGREE
    from ada_url import URL  # noqa: PLC0415 - only policies with `url_host` pay for it

    try:
        read = URL(url)
    except ValueError:
        return _INVALID
    known: str = read.hostname
    # `lower` makes ASCII letters out of others, as out of the Kelvin sign, so it is for ASCII hosts only.
    if not (known == host.lower() if host.isascii() else _is_encoded_alike(host, known)):
        return _DISAGREE
    name = known.removesuffix(".")
    if not _IPV6.fullmatch(known) and (
        len(name) > _LONGEST_HOST or not _NAME.fullmatch(name) or not all(map(_is_canonical, name.split(".")))
    ):
        return _DISAGREE
    return known, int(read.port or default_port)


def _is_too_long(host: str) -> bool:
    """Return whether a host that is not ASCII has no place in DNS: to encode a long one takes seconds."""
    if host.isascii():
        return False
    return len(host.removesuffix(".")) > _LONGEST_HOST or any(
        len(label) > _LONGEST_LABEL for label in host.split(".") if not label.isascii()
    )


def _is_encoded_alike(host: str, known: str) -> bool:
    """Return whether `known` is the ASCII form of `host` in every version of IDNA, without any mapping."""
    labels = (label if label.isascii() else f"xn--{_punycode(label)}" for label in host.split("."))
    try:
        return ".".join(labels) == known == host.encode("idna").decode("ascii")
    except UnicodeError:
        return False


def _punycode(label: str) -> str:
    return label.encode("punycode").decode("ascii")


def _is_canonical(label: str) -> bool:
    """Return whether a label is plain, or the only ASCII form of the letters that it stands for."""
    if not label.startswith("xn--"):
        return True
    try:
        letters = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return False
    # Without symbols, of which some look like a slash.
    is_word = all(char == "-" or unicodedata.category(char)[0] in "LMN" for char in letters)
    is_stable = normalized(letters.casefold(), "NFKC") == letters
    return is_word and is_stable and not letters.isascii() and _punycode(letters) == label[4:]
