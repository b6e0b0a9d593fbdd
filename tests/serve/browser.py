"""A real browser without a window, driven by the DevTools protocol, which needs no driver besides the browser."""

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request

from websockets.sync.client import connect

BINARY = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    *(
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-sync",
        "--no-first-run",
        "--mute-audio",
    ),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-port=0",
)


class Browser:
    """One tab. Everything that its console and network complain about is in ``complaints``."""

    def __init__(self, profile):
        command = [BINARY, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._numbers, self.complaints = itertools.count(1), []
        file = profile / "DevToolsActivePort"
        self.wait(lambda: file.exists() and file.read_text(encoding="utf-8").count("\n"), 60)
        port = file.read_text(encoding="utf-8").splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            [tab] = [each for each in json.load(answer) if each["type"] == "page"]
        self._open = contextlib.ExitStack()
        self._socket = self._open.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None))
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self.send(f"{domain}.enable")

    def close(self):
        self._open.close()
        self.process.terminate()
        self.process.wait(20)

    def wait(self, happened, seconds=20):
        """The first true value of ``happened()``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := happened():
                return found
            time.sleep(0.05)
        raise TimeoutError(f"nothing happened in {seconds} seconds")

    def send(self, method, **parameters):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(30))
            if message.get("method") == "Log.entryAdded":
                self.complaints.append(message["params"]["entry"]["text"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(message["params"]["exceptionDetails"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def run(self, script):
        """The value of a JavaScript expression, awaited."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url, width=1280, height=900):
        self.resize(width, height)
        self.send("Page.navigate", url=url)
        self.wait(lambda: self.run("document.readyState") == "complete")

    def resize(self, width, height):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def drop(self, path, x, y):
        """A file is dragged over a place and let go."""
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, selector, path):
        """A file is chosen in an input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def press(self, key, code):
        for kind in ("rawKeyDown", "keyUp"):
            self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def dark(self, on):
        self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}],
        )

    def screenshot(self, path):
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))
