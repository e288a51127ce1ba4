"""`url_host`: which host a URL leads to, and where programs may disagree."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from ada_url import URL
from hypothesis import given
from hypothesis import strategies as st

from aegis_otel import Action, Policy, PolicyError
from aegis_otel.policy.operators import urls
from tests.support.conditions import answer

DISAGREE = "programs may disagree about the host of the URL"
HIDDEN = "the URL has a space, a backslash, or a control or invisible character"
NO_URL = "the value is not an absolute URL with a scheme"
INVALID = "the value is not a valid URL"
SCHEME = "the URL's scheme is none of http, https, ws, wss, ftp"
DOT = "the URL's host ends with a dot"
MAPPED = "the URL's host is an IPv6 address that stands for an IPv4 address"

HOSTS = [
    *("*.example.com", "good.example", "api.example.org:8443", "*.ports.example:81"),
    *("bücher.example", "192.0.2.7", "[2001:db8::1]", "[::1]:8080", "localhost"),
]


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("https://good.example", True),
        ("https://good.example/", True),
        ("https://good.example/a/b?c=d#e", True),
        ("https://good.example?x", True),
        ("https://good.example#x", True),
        ("https://good.example:8443/", True),
        ("https://good.example:/", True),
        ("http://good.example/日本", True),
        ("https://good.example/@user", True),
        ("https://good.example/?to=me@evil.example", True),
        ("HTTPS://GOOD.EXAMPLE/", True),
        ("wss://good.example/socket", True),
        ("ftp://good.example/x", True),
        ("https://user@good.example/", True),
        ("https://user:pass@good.example:444/", True),
        ("https://a.example.com/", True),
        ("https://a.b.c.example.com/", True),
        ("https://_dmarc.example.com/", True),
        ("https://example.com/", False),
        ("https://example.com.evil.example/", False),
        ("https://badexample.com/", False),
        ("https://sub.good.example/", False),
        ("https://good.example.evil.example/", False),
        ("https://evil.example/good.example", False),
        ("https://evil.example/?good.example", False),
        ("https://good.example@evil.example/", False),
        ("https://good.example:443@evil.example/", False),
        ("https://api.example.org:8443/", True),
        ("https://api.example.org:08443/", True),
        ("https://api.example.org/", False),
        ("https://api.example.org:0/", False),
        ("https://a.ports.example:81/", True),
        ("https://a.ports.example/", False),
        ("https://ports.example:81/", False),
        ("https://bücher.example/", True),
        ("https://xn--bcher-kva.example/", True),
        ("https://XN--BCHER-KVA.example/", True),
        ("https://BÜCHER.example/", DISAGREE),
        ("https://bu\u0308cher.example/", DISAGREE),
        ("http://192.0.2.7/", True),
        ("http://192.0.2.7:80/", True),
        ("http://192.0.2.8/", False),
        ("http://3221225991/", DISAGREE),
        ("http://0xc0000207/", DISAGREE),
        ("http://0300.0.2.7/", DISAGREE),
        ("http://192.0.519/", DISAGREE),
        ("http://[2001:db8::1]/", True),
        ("http://[2001:DB8::1]:99/", True),
        ("http://[2001:db8:0::1]/", DISAGREE),
        ("http://[::1]:8080/", True),
        ("http://[::1]/", False),
        ("http://[::ffff:c000:207]/", MAPPED),
        ("http://localhost:3000/", True),
        ("https://good.example./", DOT),
        ("https://a.example.com./", DOT),
        ("https://evil.example./", False),
        ("//good.example/", NO_URL),
        ("good.example/", NO_URL),
        ("good.example:443/", NO_URL),
        ("localhost:3000/", NO_URL),
        ("/path", NO_URL),
        ("", NO_URL),
        ("file:///etc/passwd", SCHEME),
        ("javascript:alert(1)", SCHEME),
        ("ssh://good.example/", SCHEME),
        ("https:good.example/", DISAGREE),
        ("https:/good.example/", DISAGREE),
        ("https:///good.example/", DISAGREE),
        ("https://", DISAGREE),
        ("https://good.example:65536/", INVALID),
        ("https://1.2.3.4.5/", INVALID),
        (" https://good.example/", HIDDEN),
        ("https://good.example/a b", HIDDEN),
        (5, "the value is a number, not text"),
        (["https://good.example/"], "the value is a list, not text"),
    ],
)
def test_hosts(value: Any, result: Any) -> None:
    assert answer({"url_host": {"u": HOSTS}}, {"u": value}) == result
    assert answer({"url_host": {"o.u": HOSTS}}, {"o": {"u": value}}) == result


@pytest.mark.parametrize(
    "value",
    [
        "https://\u212araken.example/",
        "https://x.o\u212a.example/",
        "https://\u212a.ports.example:81/",
        "https://kraken.e\u017fample/",
    ],
)
def test_letters_whose_small_form_is_ascii_are_unknown(value: str) -> None:
    hosts = ["kraken.example", "*.ok.example", "*.ports.example:81", "kraken.esample"]
    assert answer({"url_host": {"u": hosts}}, {"u": value}) == DISAGREE


# Each leads some program to a host that is not allowed, or is written so that a reader may think of one.
LEAVING = [
    "https://evil.test/",
    "https://good.example.evil.test/",
    "https://evil-good.example/",
    "https://good.example@evil.test/",
    "https://good.example:443@evil.test/",
    "https://good.example:pass@evil.test/",
    "https://good.example%40evil.test/",
    "https://good.example%2F@evil.test/",
    "https://a@b@evil.test/",
    "https://evil.test@x@good.example/",
    "https://evil.test:80@x:81@good.example/",
    "https://evil.test\\@good.example/",
    "https://evil.test\\.good.example/",
    "https://evil.test/\\@good.example/",
    "https:\\\\evil.test\\@good.example",
    "https:/\\evil.test/@good.example",
    "https://evil.test#@good.example/",
    "https://evil.test?@good.example/",
    "https://evil.test#.a.example.com/",
    "https://evil.test?.a.example.com/",
    "https://evil.test/.a.example.com/",
    "https://evil.test;.a.example.com/",
    "https://evil.test,a.example.com/",
    "https://evil.test&.a.example.com/",
    "https://evil.test=.a.example.com/",
    "https://evil.test!.a.example.com/",
    "https://evil.test'.a.example.com/",
    'https://evil.test".a.example.com/',
    "https://evil.test`.a.example.com/",
    "https://evil.test$.a.example.com/",
    "https://evil.test(.a.example.com/",
    "https://evil.test*.a.example.com/",
    "https://evil.test+.a.example.com/",
    "https://evil.test~.a.example.com/",
    "https://evil.test{.a.example.com/",
    "https://{evil.test,x}.a.example.com/",
    "https://{evil.test/,x}.a.example.com/",
    "https://evil.test|.a.example.com/",
    "https://evil.test^.a.example.com/",
    "https://evil.test<.a.example.com/",
    "https://evil.test%.a.example.com/",
    "https://evil.test%00.a.example.com/",
    "https://evil.test%2f.a.example.com/",
    "https://evil.test%23.a.example.com/",
    "https://evil.test%3f.a.example.com/",
    "https://evil.test%5c.a.example.com/",
    "https://evil.test%0d%0a.a.example.com/",
    "https://evil.test\x00.a.example.com/",
    "https://evil.test\t/.a.example.com/",
    "https://evil.test\n.a.example.com/",
    "https://evil.test\r\n.a.example.com/",
    "https://evil.test\x0b.a.example.com/",
    "https://evil.test .a.example.com/",
    "https://evil.test\u00a0.a.example.com/",
    "https://evil.test\u2028.a.example.com/",
    "https://evil.test\u200b.a.example.com/",
    "https://evil.test\u00ad.a.example.com/",
    "https://evil.test\ufeff.a.example.com/",
    "https://evil.test\u202e.a.example.com/",
    "https://evil.test\ud800.a.example.com/",
    "https://evil.test／.a.example.com/",
    "https://evil.test∕.a.example.com/",
    "https://evil.test⁄.a.example.com/",
    "https://evil.test？.a.example.com/",
    "https://evil.test＃.a.example.com/",
    "https://evil.test＠good.example/",
    "https://evil.test＼.a.example.com/",
    "https://evil.test：80.a.example.com/",
    "https://evil.test℀.a.example.com/",
    "https://evil.test⩴.a.example.com/",
    "https://..a.example.com/",
    "https://.a.example.com/",
    "https://.example.com/",
    "https://a..example.com/",
    "https://good.example../",
    "https://good.example.\n/",
    "https:evil.test/",
    "https:/evil.test/",
    "https:///evil.test/",
    "https:////evil.test/",
    "https:good.example@evil.test/",
    "https:///good.example@evil.test/",
    "http:good.example/",
    "//evil.test/",
    "//good.example/",
    "/\\evil.test/",
    "evil.test",
    "good.example@evil.test",
    "good.example:80@evil.test/",
    "javascript://good.example/%0aalert(1)",
    "data://good.example/,x",
    "file://good.example/etc/passwd",
    "gopher://good.example:25/_x",
    "jar:https://evil.test!/good.example",
    "view-source:https://good.example/",
    "blob:https://good.example/x",
    "git+ssh://good.example/",
    "ldap://good.example/",
    "unix://good.example/",
    "httpss://good.example/",
    "ht\ttps://good.example/",
    " https://good.example/",
    "\x01https://good.example/",
    "https://good.example/ https://evil.test/",
    "https://good.example/\nHost: evil.test",
    "<https://good.example/>",
    "'https://good.example/'",
    "url(https://good.example/)",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://①②⑦.0.0.1/",
    "http://[::ffff:192.0.2.9]/",
    "http://[::192.0.2.7]/",
    "http://[fe80::1%25eth0]/",
    "http://[2001:db8::1]evil.test/",
    "http://[2001:db8::1].evil.test/",
    "http://evil.test[2001:db8::1]/",
    "http://[2001:db8::1/",
    "http://2001:db8::1/",
    "http://[2001:db8::1]@evil.test/",
    "https://good.example:80:81/",
    "https://good.example:-1/",
    "https://good.example:80evil.test/",
    "https://good.example:@evil.test/",
    "https://good.example:４４３/",
    "https://good.example:99999/",
    "https://goo\u0501.example/",
    "https://gооd.example/",
    "https://xn--good-.example/",
    "https://xn--a.example.com@evil.test/",
    "https://stra\u00dfe.example.com/",
    "https://a\u200d.example.com/",
    "https://xn--\u00fc.example.com/",
    "https://xn--abc-.example.com/",
    "https://xn---.example.com/",
    "https://" + "a" * 300 + ".example.com/",
    "https://" + "a." * 200 + "example.com/",
    "https://" + "a" * 65_536 + "@evil.test/",
    "https://evil.test/" + "good.example" * 5_000,
    "ｈttps://good.example/",
    "https：//good.example/",
    "https:/／good.example/",
    "",
    "https",
    "https:",
    "https://",
    "https://@/",
    "https://:443/",
    "https://?good.example",
]

# Each leads some program to bad.test, a subdomain of bad.example, 10.0.0.1 or [::1].
REACHING = [
    "https://bad.test/",
    "https://BAD.TEST/",
    "https://bad.test:8443/",
    "https://user@bad.test/",
    "https://good.example@bad.test/",
    "https://bad.test./",
    "https://a.bad.example./",
    "https://bad.test\\@good.example/",
    "https://good.example\\@bad.test/",
    "https://x@bad.test@good.example/",
    "https://good.example#@bad.test/",
    "https://good.example?@bad.test/",
    "https://b%61d.test/",
    "https://bad%2etest/",
    "https://ｂad.test/",
    "https://bad。test/",
    "https://bad｡test/",
    "https://bad．test/",
    "https://𝐛ad.test/",
    "https://ba\u00add.test/",
    "https://ba\u200bd.test/",
    "https://\ufeffbad.test/",
    "https://bad.test\t/",
    "https://b\nad.test/",
    "https://b\rad.test/",
    "ht\ntps://bad.test/",
    " https://bad.test/",
    "\x00https://bad.test/",
    "https:bad.test/",
    "https:/bad.test/",
    "https:///bad.test/",
    "https:\\\\bad.test/",
    "//bad.test/",
    "\\\\bad.test/",
    "bad.test/",
    "bad.test",
    "bad.test:443/",
    "ssh://bad.test/",
    "gopher://bad.test/",
    "view-source:https://bad.test/",
    "https://good.example/ https://bad.test/",
    "https://good.example/\nhttps://bad.test/",
    "https://{bad.test,good.example}/",
    "https://bad.test%00.good.example/",
    "https://bad.test%2f.good.example/",
    "https://bad.test／.good.example/",
    "https://bad.test;.good.example/",
    "https://bad.test:80:80/",
    "https://bad.test:x/",
    "https://bad.test%20/",
    "https://xn--bad-.test/",
    "https://a..bad.example/",
    "http://10.0.0.1/",
    "http://10.0.0.1./",
    "http://10.1/",
    "http://10.0.1/",
    "http://167772161/",
    "http://0xa000001/",
    "http://0x0a.0.0.1/",
    "http://012.0.0.1/",
    "http://0012.0.0.01/",
    "http://①0.0.0.1/",
    "http://[::ffff:10.0.0.1]/",
    "http://[::ffff:a00:1]/",
    "http://[::ffff:0a00:0001]/",
    "http://[::a00:1]/",
    "http://[::ffff:0:a00:1]/",
    "http://[64:ff9b::a00:1]/",
    "http://[2002:a00:1::]/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::0001]/",
    "http://[::0.0.0.1]/",
]


def test_the_lists_are_long_enough() -> None:
    assert len(set(LEAVING)) >= 120
    assert len(set(REACHING)) >= 60


STRICTNESS = ("auto", "approve", "block")


@pytest.mark.parametrize("default", STRICTNESS)
def test_no_spelling_is_looser_than_leaving_plainly(default: str) -> None:
    """An allow rule lets through no spelling that may leave, whatever the rest of the policy says."""
    hosts = [host for host in HOSTS if host != "localhost"]
    rules = [{"name": "hosts", "conditions": {"url_host": {"u": hosts}}, "approval": "auto"}]
    policy = Policy.from_dict({"rules": rules, "defaults": {"approval": default}})
    assert policy.evaluate(Action("t", params={"u": "https://good.example/"})).matched_rule == "hosts"
    plainly = policy.evaluate(Action("t", params={"u": "https://evil.test/"})).approval
    for spelling in LEAVING:
        decision = policy.evaluate(Action("t", params={"u": spelling}))
        assert STRICTNESS.index(decision.approval) >= STRICTNESS.index(plainly), spelling
        assert decision.matched_rule != "hosts" or decision.errors, spelling


def test_no_spelling_of_a_blocked_host_gets_through() -> None:
    hosts = ["bad.test", "*.bad.example", "10.0.0.1", "[::1]"]
    rules = [{"conditions": {"url_host": {"u": hosts}}, "approval": "block"}]
    policy = Policy.from_dict({"rules": rules, "defaults": {"approval": "auto"}})
    for safe in ("https://good.example/", "http://10.0.0.2/", "https://bad.example/", "http://[::2]/"):
        assert policy.evaluate(Action("t", params={"u": safe})).approval == "auto", safe
    for spelling in REACHING:
        assert policy.evaluate(Action("t", params={"u": spelling})).approval == "block", spelling


PIECES = st.sampled_from(
    [
        *(
            "http",
            "https",
            "HTTPS",
            "ftp",
            "file",
            ":",
            "//",
            "/",
            "\\",
            "@",
            "#",
            "?",
            ":80",
            ":0443",
            ":",
            ".",
        ),
        *(
            "good.example",
            "evil.test",
            "a.example.com",
            "xn--bcher-kva.example",
            "bücher.example",
            "ß",
            "。",
            "％",
        ),
        *(
            "127.1",
            "192.0.2.7",
            "0x7f",
            "[::1]",
            "[",
            "]",
            "%2e",
            "%40",
            "\t",
            " ",
            "_",
            "-",
            "a",
            "1",
            ";",
            "{",
            "é",
        ),
    ]
)
URLS = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["https://", "http://", "https:", "", "ws://"]),
        st.lists(PIECES, max_size=7).map("".join),
    ),
)


def host_of(read: Any, value: str) -> str | None:
    try:
        host: str | None = read(value).hostname
    except (ValueError, UnicodeError):
        return None
    return host


@given(URLS)
def test_what_is_known_is_what_both_readers_say(value: str) -> None:
    found = urls.leads_to(value, urls.prepare_hosts(urls.check_hosts(HOSTS[:2])))
    if isinstance(found, str):
        return
    by_standard, by_urllib = host_of(URL, value), host_of(urlsplit, value)
    assert by_standard is not None
    assert by_urllib is not None
    for host in {by_standard, by_urllib}:
        assert found is (host == "good.example" or host.endswith(".example.com"))


LABELS = st.from_regex(r"[a-z0-9_-]{1,12}", fullmatch=True)


@given(
    st.sampled_from(["http", "https", "ws", "wss", "ftp"]),
    st.lists(
        st.one_of(LABELS, st.sampled_from(["xn--a", "0x7f", "1", "a" * 63])), min_size=1, max_size=5
    ).map(".".join),
    st.sampled_from(["", ":1", ":80", ":443", ":8443", ":99999"]),
    st.sampled_from(["", "/", "/a?b#c", "/@x"]),
)
def test_the_short_way_is_the_way_of_the_library(scheme: str, host: str, port: str, rest: str) -> None:
    """A URL of plain shape is not given to the library; it would say the same."""
    found = urls._PLAIN.fullmatch(url := f"{scheme}://{host}{port}{rest}")
    if found is not None and len(found[2]) <= 253:
        read = URL(url)
        assert (read.hostname, int(read.port or urls._PORTS[scheme])) == (
            found[2],
            int(found[3] or urls._PORTS[scheme]),
        )
        assert urls.read_host(url) == (found[2], int(found[3] or urls._PORTS[scheme]))


@given(st.one_of(st.text(), st.none(), st.integers(), st.binary(), st.lists(st.text()), st.booleans(), URLS))
def test_nothing_raises(value: Any) -> None:
    assert isinstance(urls.leads_to(value, urls.prepare_hosts(urls.check_hosts(HOSTS))), (bool, str))


@given(st.text(max_size=40))
def test_nothing_raises_for_any_host(text: str) -> None:
    hosts = urls.prepare_hosts(urls.check_hosts(HOSTS))
    for value in (f"https://{text}/", f"https://{text}.example.com/", f"https://xn--{text}.example.com/"):
        assert isinstance(urls.leads_to(value, hosts), (bool, str))


@pytest.mark.parametrize(
    "value",
    [
        "https://" + "a" * 65_536,
        "https://" + "a." * 32_768,
        "https://" + "a-" * 32_768 + "/",
        "https://" + "@" * 65_536,
        "https://" + "xn--" * 16_384,
        "https://" + "ü" * 65_536,
        "https://" + ":" * 65_536,
        "https://" + "[" * 65_536,
        "https://a/" + "@" * 65_536,
        "https://a/" + "ü" * 65_536,
        "a" * 65_536,
        "a+" * 32_768 + ":",
        " " * 65_536,
        "https://" + "ü" * 1_000,
        "https://xn--" + "a" * 1_000,
        "https://" + "9" * 1_000,
        "https://" + "".join(map(chr, range(0x4E00, 0x51E8))) + "/",
        "https://" + ".".join("".join(map(chr, range(0x4E00 + n, 0x4E40 + n))) for n in range(15)) + "/",
        "https://" + "".join(map(chr, range(0x4E00, 0x4E40))) + ".example/",
    ],
)
def test_hostile_values_are_judged_fast(value: str) -> None:
    hosts = urls.prepare_hosts(urls.check_hosts([f"*.h{number}.example" for number in range(1_000)]))
    start = time.process_time()
    urls.leads_to(value, hosts)
    assert time.process_time() - start < 0.1


@pytest.mark.parametrize(
    "host",
    ["中" * 64, "中" * 1_000, "。".join("中" * 50 for _ in range(4)), ".".join("中" * 50 for _ in range(5))],
)
def test_a_host_that_is_too_long_for_dns_is_not_read(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To encode it takes a time that grows with the square of its length, or more."""
    monkeypatch.setattr(urls, "_punycode", None)
    monkeypatch.setattr("ada_url.URL", None)
    assert urls.read_host(f"https://{host}/") == DISAGREE


@pytest.mark.parametrize("length", [1, 20, 40])
def test_a_long_label_that_dns_can_hold_is_read(length: int) -> None:
    label = "中" * length
    assert urls.read_host(f"https://{label}.example/") == (
        f"xn--{label.encode('punycode').decode()}.example",
        443,
    )


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ("[]", "`url_host` on `u` must not be empty"),
        ("a.example", "must be a list of hosts, not `a.example` (did you mean `[a.example]`?)"),
        ("5", "must be a list of hosts, not the number `5`"),
        ("[5]", "must be a host, like `api.example.org` or `*.example.com`, not the number `5`"),
        ("['']", "must be a host, like `api.example.org` or `*.example.com`, not empty text"),
        ("['https://a.example/x']", "not `https://a.example/x` (did you mean `a.example`?)"),
        ("['a.example/x']", "not `a.example/x` (did you mean `a.example`?)"),
        ("['u@a.example']", "not `u@a.example` (did you mean `a.example`?)"),
        ("['*']", "must have `*` as the whole first label only"),
        ("['*.*.example']", "must have `*` as the whole first label only"),
        ("['a*.example']", "must have `*` as the whole first label only"),
        ("['a.*.example']", "must have `*` as the whole first label only"),
        ("['*example.com']", "must have `*` as the whole first label only"),
        ("['*.192.0.2.1']", "an address has no subdomains"),
        ("['*.[::1]']", "an address has no subdomains"),
        ("['::1']", "must have an IPv6 address in brackets"),
        ("['127.1']", "must be a host that every program reads alike, not the text `127.1`"),
        ("['a.example.']", "the URL's host ends with a dot"),
        ("['a..example']", "must be a host that every program reads alike"),
        ("['.a.example']", "must be a host that every program reads alike"),
        ("['a example']", "must be a host that every program reads alike"),
        ("['a.example:x']", "must be a host that every program reads alike"),
        ("['a.example:99999']", "must be a host that every program reads alike"),
        ("['straße.example']", "must be a host that every program reads alike"),
        ("['ａ.example']", "must be a host that every program reads alike"),
    ],
)
def test_a_bad_value_is_one_problem_with_its_place(hosts: str, problem: str) -> None:
    with pytest.raises(PolicyError) as refused:
        Policy.from_text(f"rules: [{{ conditions: {{ url_host: {{ u: {hosts} }} }} }}]")
    (only,) = refused.value.problems
    assert problem in str(only)
    assert only.column == len("rules: [{ conditions: { url_host: { u: ") + (
        1 if "list" in problem or "empty`" in problem or hosts == "[]" else 2
    )


def test_hosts_are_kept_in_their_ascii_form() -> None:
    """So that two spellings of one host are one policy."""
    digests = {
        Policy.from_dict({"rules": [{"conditions": {"url_host": {"u": [host]}}}]}).digest
        for host in ("bücher.example", "xn--bcher-kva.example", "XN--bcher-KVA.EXAMPLE")
    }
    assert len(digests) == 1


def test_the_value_is_in_no_reason() -> None:
    for value in (
        "https://s3cret\\x",
        "s3cret.example",
        "https://s3cret%2e/",
        "s3cret:x",
        "https://s3cret:x/",
    ):
        assert "s3cret" not in str(answer({"url_host": {"u": ["a.example"]}}, {"u": value}))


def test_only_a_policy_with_paths_or_urls_loads_the_libraries() -> None:
    program = """
import sys
from aegis_otel import Policy

def loaded(condition):
    Policy.from_text(f"rules: [{{conditions: {{{condition}}}}}]")
    return sorted({"pathspec", "ada_url", "re2"} & set(sys.modules))

print(loaded("param_eq: {a: b}"), loaded("path_within: {a: [b]}"))
print(loaded("url_host: {a: [b]}"), loaded("path_matches: {a: [b]}"))
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[] []", "['ada_url'] ['ada_url', 'pathspec', 're2']"]
