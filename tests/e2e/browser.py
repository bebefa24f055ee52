"""A headless Chromium, the system's own, driven by Playwright."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def installed() -> str | None:
    """The browser on this machine; Debian's is installed where that is possible and none is there."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and shutil.which("apt-get"):
        command = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
        for before in ([], ["apt-get", "update"]):
            if before:
                subprocess.run(before, capture_output=True, check=False, timeout=240)
            subprocess.run(command, capture_output=True, check=False, timeout=240)
            found = shutil.which("chromium")
            if found:
                break
    return found


@contextmanager
def running(path: str) -> Iterator[Any]:
    """A browser for the length of a `with` block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()
