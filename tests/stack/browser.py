"""Debian's Chromium without a window, driven by its DevTools protocol: a page as a reader sees it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_PATIENCE = 30.0


class Browser:
    """One page. What it sends, logs and throws is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def open(self, page: Path | str) -> None:
        """Load a file or a URL, and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        self.wait_for_load()

    def wait_for_load(self) -> None:
        """Wait until a page that is under way is there."""
        while not self.seen("Page.loadEventFired"):
            self.events.append(self._receive())

    def until(self, expression: str, seconds: float = 5.0) -> float:
        """Wait until an expression of JavaScript is true; return how long that took."""
        begin = time.monotonic()
        while not self.ask(expression):
            assert time.monotonic() < begin + seconds, f"never true: {expression}"
            time.sleep(0.02)
        return time.monotonic() - begin

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key that has no text, `Enter` or a space, and let it go."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        code = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}[key]
        about = {
            "key": key,
            "windowsVirtualKeyCode": code,
            "modifiers": 8 if shift else 0,
            "code": "Space" if key == " " else key,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def focused(self) -> str:
        """The name of what has the focus, as somebody hears it."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        for node in nodes:
            if any(
                each["name"] == "focused" and each["value"]["value"] for each in node.get("properties", ())
            ):
                found = f"{node['role']['value']}: {node['name']['value']}"
                if node["role"]["value"] != "RootWebArea":
                    return found
        return ""

    def seen(self, *methods: str) -> list[Any]:
        """What was told of since the page was opened."""
        return [each["params"] for each in self.events if each.get("method") in methods]

    def look(self, *, width: int = 1200, height: int = 900, scheme: str = "light", media: str = "") -> None:
        """Be a screen of that size, or paper."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def ask(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> bytes:
        """All of the page, also kept as a file."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path.read_bytes()

    def print(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def roles(self) -> list[str]:
        """What somebody who hears the page is told of, in order."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [node["role"]["value"] for node in nodes if not node["ignored"]]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=_PATIENCE))
        return message


@contextmanager
def started(program: str, folder: Path) -> Iterator[Browser]:
    """The browser, with a profile of its own in `folder`."""
    options = ["--headless=new", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # it refuses to have one as root
    process = subprocess.Popen(
        [program, *options, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_address(folder, process), max_size=None, proxy=None) as socket:
            yield Browser(socket)
    finally:
        process.terminate()
        process.wait()


def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    place, until = folder / "DevToolsActivePort", time.monotonic() + _PATIENCE
    while not place.exists() or len(place.read_text().split()) < 2:
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < until, "the browser does not start"
        time.sleep(0.05)
    port = place.read_text().split()[0]
    here = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with here.open(f"http://127.0.0.1:{port}/json") as answer:
        pages = [each for each in json.load(answer) if each["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
