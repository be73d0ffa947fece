"""A real browser, for tests that open pages as people do."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from quantkit.reporting.html.report_page import report_page
from tests.reporting.example_report import example_report
from tests.reporting.html.visit import LAYERS, Visits

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page under test may reach for the network.
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Not for the whole session: while it is open, no test in this process can run asyncio."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser to open the page in: none of {', '.join(_NAMES)} is installed")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=_QUIET)
        yield started
        started.close()


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Opens pages; afterwards none of them may have complained or asked for anything."""
    made = Visits(browser)
    yield made
    made.close()
    made.were_quiet()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report's page, as a file."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(example_report(LAYERS)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(path: Path, browser: Browser) -> Iterator[tuple[Visits, Page]]:
    visits = Visits(browser)
    yield visits, visits.open(path)
    visits.close()


@pytest.fixture
def page(shared: tuple[Visits, Page]) -> Iterator[Page]:
    """The page, opened once for all tests that leave it as it was but for its sorting."""
    visits, page = shared
    yield page
    page.evaluate("""() => {
      document.querySelectorAll('.opener[aria-expanded=true]').forEach(opener => opener.click());
      for (const input of document.querySelectorAll('.filter input')) {
        input.value = '';
        input.dispatchEvent(new Event('input'));
      }
    }""")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(media="screen", color_scheme="light")
    visits.were_quiet()
