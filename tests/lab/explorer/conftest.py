"""A real browser without a window, in which pages are opened."""

import shutil

import pytest


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright; tests are skipped where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        try:
            launched = driver.chromium.launch(executable_path=found)
        except playwright.Error as error:
            pytest.skip(f"no browser: {str(error).splitlines()[0]}")
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser):
    """Opens a file; at the end of the test no error was on the console, and nothing left the machine."""
    faults, contexts = [], []

    def note_request(request):
        if not request.url.startswith(("file:", "data:", "blob:")):
            faults.append(request.url)

    def open_(path, width=1400, height=1000):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: message.type == "error" and faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", note_request)
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not faults
