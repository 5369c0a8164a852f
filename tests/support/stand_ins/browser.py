"""A headless Chromium for tests, driven over the W3C WebDriver protocol."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def missing_browser() -> str | None:
    """Say which program a browser test lacks here, or None when everything is there."""
    if not any(shutil.which(name) for name in _CHROMIUM):
        return "no chromium on PATH (Debian: apt-get install chromium chromium-driver)"
    if shutil.which("chromedriver") is None:
        return "no chromedriver on PATH (Debian: apt-get install chromium-driver)"
    return None


@dataclass(frozen=True)
class Browser:
    """One page of a running headless Chromium."""

    session: str

    def _send(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _request(f"{self.session}/{path}", body)

    def open(self, page: Path) -> None:
        self._send("url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """Run a function body in the page and return what it returns."""
        return self._send("execute/sync", {"script": script, "args": []})

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._send("goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, *, width: int, height: int, dark: bool) -> None:
        """Set the size of the window in CSS pixels and what the system asks for, light or dark."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", media="screen", features=[scheme])

    def wait_for(self, condition: str, *, seconds: float = 30.0) -> None:
        """Wait until a JavaScript expression is true; TimeoutError names it otherwise."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"still false after {seconds} s: {condition}; {self.console()}")
            time.sleep(0.05)

    def console(self) -> list[str]:
        """Return what the page wrote to the console since the last call, one line per message."""
        return [f"{m['level']}: {m['message']}" for m in self._send("se/log", {"type": "browser"})]

    def screenshot(self, path: Path) -> None:
        """Write the whole page, not only the window, as PNG."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.devtools("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium without a network and stop it afterwards."""
    program = next(path for name in _CHROMIUM if (path := shutil.which(name)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(
        ["chromedriver", f"--port={port}", "--silent"], stdout=subprocess.DEVNULL
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_ready(address)
        # Every name lookup fails, so a page that needs the network shows it as an error.
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--host-resolver-rules=MAP * ~NOTFOUND", "--hide-scrollbars"]
        wanted = {
            "goog:chromeOptions": {"binary": program, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        reply = _request(f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        browser = Browser(f"{address}/session/{reply['sessionId']}")
        try:
            yield browser
        finally:
            _request(browser.session, None, method="DELETE")
    finally:
        driver.terminate()
        driver.wait(timeout=20)


def _wait_until_ready(address: str) -> None:
    for _ in range(200):
        try:
            if _request(f"{address}/status", None)["ready"]:
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise TimeoutError(f"chromedriver did not answer at {address} within 10 s")


def _request(url: str, body: Mapping[str, Any] | None, *, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        # No proxy: the driver listens on this machine only.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as reply:
            return json.load(reply)["value"]
    except urllib.error.HTTPError as error:
        message = json.load(error)["value"]["message"]
        raise RuntimeError(f"WebDriver refused {url}: {message}") from error
