"""Opening a page and asking it questions."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Request

# The example's layers, and the table that holds them.
LAYERS = 24
TABLE = "#layers table"


class Visits:
    """Pages open in a browser, and what they said and asked for meanwhile.

    Attributes:
        complaints: What the console and uncaught errors said.
        requests: Addresses asked for, other than the files opened and what those hold themselves.
    """

    def __init__(self, browser: Browser) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._browser = browser
        self._contexts: list[Any] = []
        self._files: set[str] = set()

    def open(
        self, path: Path, *, width: int = 1280, dark: bool = False, scripts: bool = True
    ) -> Page:
        """Opens a file and waits until its scripts are through."""
        context = self._browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        self._contexts.append(context)
        page: Page = context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)
        self._files.add(path.as_uri())
        page.goto(path.as_uri(), wait_until="load")
        return page

    def close(self) -> None:
        """Closes all pages."""
        for context in self._contexts:
            context.close()

    def were_quiet(self) -> None:
        """Fails where a page complained or asked for anything."""
        assert self.complaints == []
        assert self.requests == []

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note(self, request: Request) -> None:
        if request.url not in self._files and not request.url.startswith("data:"):
            self.requests.append(request.url)


def drawn_plots(page: Page, plots: str = ".plot") -> int:
    """How many of the plots show at least one trace."""
    count = page.evaluate(
        """plots => [...document.querySelectorAll(plots)].filter(plot =>
             plot.querySelector('.main-svg .point path, .main-svg path.js-line')).length""",
        plots,
    )
    return int(count)


def contrast(page: Page, selector: str) -> float:
    """Ratio of contrast (WCAG 2) of an element's text to what is behind it."""
    ratio = page.evaluate(
        """selector => {
        const parse = (text) => text.match(/[\\d.]+/g).map(Number);
        const luminance = (rgb) => {
          const [r, g, b] = rgb.slice(0, 3).map((value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
          });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const element = document.querySelector(selector);
        let behind = element;
        const colour = (node) => parse(getComputedStyle(node).backgroundColor);
        while (behind && colour(behind)[3] === 0) behind = behind.parentElement;
        const [low, high] = [luminance(parse(getComputedStyle(element).color)),
                             luminance(colour(behind))].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
        }""",
        selector,
    )
    return float(ratio)
