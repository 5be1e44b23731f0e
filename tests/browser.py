"""A real browser with the network cut, for tests of pages; `from browser import browser`.

page = browser.open(path)   # a playwright Page of a file
browser.troubles            # failed requests, console errors, and scripts' exceptions so far
"""

import shutil
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium's sandbox needs rights that a container may not give; the pages are our own
OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND")
WIDTHS = (390, 1366, 1920)


class Browser:
    """Pages from the file system, and what went wrong on them."""

    def __init__(self, chromium):
        self.chromium, self.troubles = chromium, []

    def open(self, path: Path, width: int = 1366, *, fragment: str = "", **context):
        """A new page at a file, loaded to the end; `context` goes to playwright's `new_page`."""
        page = self.chromium.new_page(viewport={"width": width, "height": 900}, **context)
        page.on("requestfailed", lambda request: self.note("failed request", request.url))
        page.on("request", self.note_external)
        page.on("pageerror", lambda error: self.note("exception", error))
        page.on("console", lambda m: m.type == "error" and self.note("console error", m.text))
        page.goto(Path(path).resolve().as_uri() + fragment, wait_until="load")
        return page

    def note(self, kind, what):
        self.troubles.append(f"{kind}: {what}")

    def note_external(self, request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.note("request that leaves the site", request.url)


def until(page, expression: str) -> None:
    """Wait till an expression is true, for 10 seconds at most.

    Not `wait_for_function`: where that must try again, the policy of our pages forbids its eval.
    """
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


# A module's, not the session's: while playwright runs, no other test can run an event loop
@pytest.fixture(scope="module")
def chromium():
    """The installed Chromium, started."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser found: none of {', '.join(NAMES)} is on the PATH")
    with playwright.sync_playwright() as driver:
        instance = driver.chromium.launch(executable_path=executable, args=OPTIONS)
        yield instance
        instance.close()


@pytest.fixture
def browser(chromium):
    """A browser whose pages are closed after the test, none of which may have had trouble."""
    started = Browser(chromium)
    yield started
    for context in chromium.contexts:
        context.close()
    assert not started.troubles, "\n".join(started.troubles)
