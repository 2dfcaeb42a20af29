"""The rendered book, and a browser without a network."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, sync_playwright

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def html() -> Path:
    """The pages of `make html`, up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.render"], capture_output=True, encoding="utf-8", errors="replace"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path("_build/html").resolve()


@dataclass
class Visit:
    """A browser page, and what went wrong while it was shown."""

    page: Page
    remote: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def route(self, route: Route) -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.remote.append(route.request.url)
            route.abort()

    def open(self, url: str) -> None:
        self.remote.clear()
        self.errors.clear()
        self.page.goto(url, wait_until="load")
        self.page.evaluate("() => window.MathJax?.startup?.promise")


@pytest.fixture(scope="session")
def visit() -> Iterator[Visit]:
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome is installed")
    with sync_playwright() as playwright:
        # Scroll bars are shown, as readers on Windows and Linux see them.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=FLAGS, ignore_default_args=["--hide-scrollbars"]
        )
        context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
        visit = Visit(context.new_page())
        context.route("**/*", visit.route)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.on("requestfailed", lambda request: visit.errors.append(f"not loaded: {request.url}"))
        yield visit
        browser.close()
