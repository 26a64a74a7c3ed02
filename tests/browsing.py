"""A browser, and who presses keys in it, for the page on which an annotator labels."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from shell import Started

Serve = Callable[..., tuple[Started, str]]


class Typist:
    """Presses keys once the picture is there, as a person does."""

    def __init__(self, window: Any, address: str) -> None:
        self.window, self.address = window, address
        window.get(address)

    def text(self, selector: str) -> str:
        return self.window.execute_script("return document.querySelector(arguments[0]).innerText", selector)

    def until(self, selector: str, text: str) -> None:
        end = time.monotonic() + 60
        while text not in (seen := self.text(selector)):
            assert time.monotonic() < end, (selector, text, seen)
            time.sleep(0.02)

    def at(self, name: str) -> None:
        """Wait until an image is shown."""
        self.until("#file", name)
        end = time.monotonic() + 60
        while not self.window.execute_script("return ready !== '' && !busy"):
            assert time.monotonic() < end, name
            time.sleep(0.02)

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.window).send_keys(*keys).perform()

    def click(self, selector: str, text: str = "") -> None:
        from selenium.webdriver.common.by import By

        found = self.window.find_elements(By.CSS_SELECTOR, selector)
        next(x for x in found if text in x.text).click()

    def script(self, text: str) -> Any:
        return self.window.execute_script(f"return {text}")


def requests_of(window: Any) -> set[str]:
    """Every address that the page has asked for; what Chromium's own pages ask for is left out."""
    events = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    urls = {x["request"]["url"] for x in sent if not x["documentURL"].startswith("chrome")}
    return urls | {x["params"]["url"] for x in events if x["method"] == "Network.webSocketCreated"}


def complaints(window: Any) -> list[str]:
    """What the browser's console says, refused answers apart."""
    lines = [line["message"] for line in window.get_log("browser")]
    return [line for line in lines if "409 (CONFLICT)" not in line]


# --- fixtures, by conftest.py


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium that notes every request, and reaches no address but 127.0.0.1."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium with its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking",
                 "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={tmp_path}/chromium",
                 "--window-size=1280,800"):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    service = webdriver.ChromeService(driver, env={**os.environ, "SE_OFFLINE": "true"})
    window = webdriver.Chrome(options, service)
    yield window
    window.quit()


@pytest.fixture
def served() -> Iterator[Serve]:
    """Start the program, and wait for the address that it prints; what still runs at the end is killed."""
    started = []

    def start(run_folder: Path, *flags: str) -> tuple[Started, str]:
        process = Started(Path.cwd(), "utils/label_images.py", str(run_folder), "--port", "0",
                          "--no-browser", *flags)  # fmt: skip
        started.append(process)
        line = process.stdout.readline()
        match = re.match(r"http://127\.0\.0\.1:\d+", line)
        assert match, (line, process.stderr.read() if process.poll() is not None else "")
        return process, match[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()
