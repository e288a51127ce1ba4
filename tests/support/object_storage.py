"""An S3 server of a few lines, whose answers a test can change: what a bucket, or who holds it, can say."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

import pytest

from aegis_otel.audit.location import locate

_DATE = "Sun, 22 Nov 2026 00:00:00 GMT"


class Asked(BaseHTTPRequestHandler):
    """One request: `command`, the `key` of the object, and the members of its query."""

    protocol_version = "HTTP/1.1"
    bucket: Bucket
    key: str
    query: Mapping[str, str]

    def answer(self, status: int, body: bytes = b"", size: int | None = None) -> None:
        """Answer with `body`, of which `size` says how long it is."""
        self.send_response(status)
        if status < 300:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Last-Modified", _DATE)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _any(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.key = unquote(url.path).lstrip("/").partition("/")[2]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.bucket.instead is None or not self.bucket.instead(self):
            self._usual(body)

    def _usual(self, body: bytes) -> None:
        objects = self.bucket.objects
        if self.command == "PUT":
            objects[self.key] = body
            self.answer(200)
        elif self.command == "POST":  # of several objects, to remove them
            keys = re.findall("<Key>(.*?)</Key>", body.decode())
            for key in keys:
                objects.pop(unescape(key), None)
            deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
        elif "list-type" in self.query:
            self.answer(200, listing(objects, self.query))
        elif self.key in objects:
            self.answer(200, objects[self.key])
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_GET = do_HEAD = do_PUT = do_POST = _any

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


class Bucket:
    """The server, as long as a test lasts."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.instead: Callable[[Asked], bool] | None = None
        """Asked first of every request; what it answers itself, it returns True for."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Server", (Asked,), {"bucket": self}))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """What has it used."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "user",
            "AWS_SECRET_ACCESS_KEY": "the user's secret",
            "AWS_REGION": "us-east-1",
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def machines(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what makes this process the machine of a name: with its own local part of the audit at `url`."""

    def become(name: str) -> Path:
        monkeypatch.setenv("AEGIS_AUDIT_SPOOL", str(folder / name))
        return locate(url)

    return become


def listing(objects: Mapping[str, bytes], query: Mapping[str, str], after: str = "") -> bytes:
    """The answer to a listing.

    Args:
        after: Where the next page begins; empty where this is the last.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    keys, folders = [], set()
    for key in sorted(each for each in objects if each.startswith(prefix)):
        head, found, _ = key.removeprefix(prefix).partition(delimiter) if delimiter else (key, "", "")
        if found:
            folders.add(f"{prefix}{head}{delimiter}")
        else:
            keys.append(key)
    parts = [
        f"<IsTruncated>{'true' if after else 'false'}</IsTruncated>",
        f"<NextContinuationToken>{after}</NextContinuationToken>" if after else "",
        *(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-22T00:00:00.000Z</LastModified>"
            f"<Size>{len(objects[key])}</Size></Contents>"
            for key in keys
        ),
        *(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders)),
    ]
    return f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode()
