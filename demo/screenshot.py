"""A picture of a page of Airflow's UI, where playwright and a Chromium are at hand."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def take(url: str, target: Path, *, seconds: float = 60.0) -> None:
    """Write a PNG of the XCom page at `url`, every value expanded, to `target`.

    Uses the Chromium on the PATH, else the one that playwright installed. Raises ImportError,
    saying what to install, when playwright is missing.
    """
    try:
        api: Any = importlib.import_module("playwright.sync_api")
    except ImportError as error:
        raise ImportError("install playwright (pip install playwright) and a Chromium") from error
    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        try:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            page.set_default_timeout(seconds * 1000)
            page.goto(url)
            page.get_by_text("small_obj").first.wait_for()
            for button in page.get_by_role("button", name="Expand").all():
                button.click()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=str(target))
        finally:
            browser.close()
