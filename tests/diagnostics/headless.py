"""A browser without a window, asked over the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import websocket

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
TIMEOUT = 60


class Browser:
    """One page of a browser."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(
            address, timeout=TIMEOUT, suppress_origin=True
        )
        self._count = 0
        #: What the page complained about: errors, breaches of its policy.
        self.complaints: list[str] = []
        #: What it asked for.
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._count += 1
        self._socket.send(
            json.dumps({"id": self._count, "method": method, "params": params})
        )
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event["method"]:
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])

    def look(self, *, width: int = 1200, height: int = 800, dark: bool = False) -> None:
        """Be that wide, and what the user prefers."""
        scheme = {
            "name": "prefers-color-scheme",
            "value": "dark" if dark else "light",
        }
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, path: Path, address: str = "") -> None:
        """Open a report at an address behind its ``#``, and wait until it is shown."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=f"{path.as_uri()}{address}")
        self.wait("document.querySelector('html[data-rendered]')")

    def go(self, address: str) -> None:
        """Follow a link within the page."""
        self.run(f"location.hash = {json.dumps(address)}")

    def run(self, script: str) -> Any:
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script: str) -> Any:
        """Return what a script gives as soon as that is something."""
        deadline = time.monotonic() + TIMEOUT
        # The page itself waits; it may not be there yet, so it is asked again.
        pause = "new Promise(done => setTimeout(done, 20)).then(() => null)"
        while time.monotonic() < deadline:
            shown = f"(v => v instanceof Node || v)({script})"
            if found := self.run(f"{shown} || {pause}"):
                return found
        raise AssertionError(f"{script} gave nothing; complaints: {self.complaints}")

    def texts(self, selector: str) -> list[str]:
        """Return the text of all that a selector finds."""
        every = f"document.querySelectorAll({json.dumps(selector)})"
        found: list[str] = self.run(f"[...{every}].map(e => e.textContent)")
        return found

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    def screenshot(self, path: Path) -> None:
        data = self.send("Page.captureScreenshot")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self._socket.close()


def program() -> str | None:
    """Return the program that there is, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def running(program: str, profile: Path) -> Iterator[str]:
    """Run it, and give the address of the DevTools of a page."""
    command = [
        program,
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",  # it is small in containers
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    if os.getuid() == 0:
        command.insert(1, "--no-sandbox")  # root has none, and Chromium insists
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield _page(process)
        finally:
            process.terminate()


def _page(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("DevTools listening on "):
            address = line.removeprefix("DevTools listening on ").strip()
            break
    else:
        raise AssertionError(f"the browser ended: {''.join(said)}")
    # From here on nobody reads what it says, and it must not wait for somebody.
    process.stderr.close()
    connection = websocket.create_connection(
        address, timeout=TIMEOUT, suppress_origin=True
    )
    connection.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
    targets = json.loads(connection.recv())["result"]["targetInfos"]
    connection.close()
    page = next(t["targetId"] for t in targets if t["type"] == "page")
    return address.partition("/devtools/")[0] + f"/devtools/page/{page}"
