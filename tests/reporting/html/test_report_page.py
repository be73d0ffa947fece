"""The report's page in a real browser: what it shows, what it does, whether it can be read."""

import math
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.reporting.html.visit import LAYERS, TABLE, Visits, contrast, drawn_plots


def _cells(page: Page, column: int) -> list[str]:
    cells = page.locator(f"{TABLE} tbody tr.row > :nth-child({column})")
    return [text.strip() for text in cells.all_inner_texts()]


def test_every_plot_is_drawn_and_nothing_is_fetched(page: Page) -> None:
    plots = ".plot:not(.detail .plot)"
    # Two drops, five quantities of engines, three of the split, the layers.
    assert page.locator(plots).count() == drawn_plots(page, plots) == 11
    assert page.title().startswith("net.int8.onnx")
    assert page.locator("html").get_attribute("lang") == "en"


def test_every_column_sorts_both_ways(page: Page) -> None:
    heads = page.locator(f"{TABLE} thead th")
    graph_order = _cells(page, 1)
    for column in range(1, heads.count() + 1):
        head = heads.nth(column - 1)
        number = "number" in (head.get_attribute("class") or "")
        for direction, sign in (("ascending", 1), ("descending", -1)):
            button = head.get_by_role("button")
            if column % 2:
                button.press("Enter")
            else:
                button.click()
            expect(head).to_have_attribute("aria-sort", direction)
            assert page.locator(f"{TABLE} [aria-sort=none]").count() == heads.count() - 1
            texts = _cells(page, column)
            present = [text for text in texts if text != "-"]
            assert texts == present + ["-"] * (len(texts) - len(present)), "missing ones last"
            if number:
                values = [sign * _number(text) for text in present]
                assert all(first <= second for first, second in pairwise(values)), texts
    assert sorted(_cells(page, 1)) == sorted(graph_order)


def _number(text: str) -> float:
    word = text.split()[0].replace(",", "")
    return math.inf if word == "exact" else float(word)


def test_details_stay_with_their_rows_when_sorted(page: Page) -> None:
    page.locator(f"{TABLE} thead button").first.click()
    page.locator(f"{TABLE} thead button").first.click()
    pairs = page.evaluate(
        """selector => [...document.querySelectorAll(selector + ' tr.row')].map(row =>
             [row.dataset.detail, row.nextElementSibling.id])""",
        TABLE,
    )
    assert len(pairs) == LAYERS
    assert all(detail == follower for detail, follower in pairs)


def test_filter_counts_what_it_leaves(page: Page) -> None:
    page.locator("#layers-filter").fill("SOFT")
    expect(page.locator("#layers .filter output")).to_contain_text(f"1 of {LAYERS}")
    assert page.locator(f"{TABLE} tbody tr.row:visible").count() == 1
    page.locator("#layers-filter").fill("")
    expect(page.locator("#layers .filter output")).to_contain_text(f"{LAYERS} of {LAYERS}")
    page.locator("#layers-filter").fill("no such layer")
    expect(page.locator("#layers .filter output")).to_contain_text(f"0 of {LAYERS}")


def test_a_click_opens_a_row_and_draws_its_plots(page: Page) -> None:
    before = drawn_plots(page)
    row = page.locator(f"{TABLE} tr.row[data-key=conv9]")
    detail = page.locator(f"{TABLE} tr.row[data-key=conv9] + tr")
    expect(detail).to_be_hidden()
    row.locator("td").nth(1).click()
    expect(detail).to_be_visible()
    expect(row.get_by_role("button")).to_have_attribute("aria-expanded", "true")
    assert drawn_plots(page) == before + 2, "drawn when opened, not before"
    histogram = detail.locator(".figure-histogram .plot")
    assert histogram.locator(".bars .point").count() == 96
    assert histogram.locator(".shapelayer path").count() == 2, "the clip lines"
    for label in ("scale", "zero point", "accumulator", "mantissa", "shift"):
        expect(detail.locator("dt", has_text=label).first).to_be_visible()
    row.locator("td").nth(1).click()
    expect(detail).to_be_hidden()


def test_counts_can_be_logarithmic(page: Page) -> None:
    page.locator(f"{TABLE} [data-key=conv4] .opener").click()
    figure = page.locator(f"{TABLE} [data-key=conv4] + tr .figure-histogram")
    figure.get_by_label("logarithmic").check()
    kind = figure.locator(".plot").evaluate("plot => plot.layout.yaxis.type")
    assert kind == "log"


def test_the_keyboard_alone_opens_a_row(path: Path, visits: Visits) -> None:
    page = visits.open(path)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('opener')"):
            break
    opener = page.locator(f"{TABLE} .opener").first
    expect(opener).to_be_focused()
    outline = opener.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid", "focus is visible"
    detail = page.locator(f"{TABLE} tr.detail").first
    page.keyboard.press("Enter")
    expect(detail).to_be_visible()
    expect(detail.locator(".figure-histogram .main-svg").first).to_be_visible()
    page.keyboard.press("Space")
    expect(detail).to_be_hidden()


def test_a_cause_leads_to_its_layer(page: Page) -> None:
    page.locator("#layers-filter").fill("softmax")
    page.locator("#causes a[data-opens=conv3]").click()
    row = page.locator(f"{TABLE} tr.row[data-key=conv3]")
    expect(row.locator(".opener")).to_be_focused()
    expect(row.locator(".opener")).to_have_attribute("aria-expanded", "true")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_readable_at_every_width_and_theme(page: Page, width: int, dark: bool) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.locator(f"{TABLE} .opener").first.click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = page.evaluate(
        "[...document.querySelectorAll('.opened')].filter(e => e.offsetWidth > innerWidth).length"
    )
    assert wide == 0
    for selector in _TEXTS:
        assert contrast(page, selector) >= 4.5, selector
    assert _cut_plots(page) == 0


def _cut_plots(page: Page) -> int:
    """Plots wider than their place; they follow the window a moment later."""
    cut = 0
    for _ in range(40):
        cut = page.evaluate("""() => [...document.querySelectorAll('.js-plotly-plot')].filter(
          plot => plot.offsetParent
            && plot.querySelector('.main-svg').clientWidth > plot.clientWidth
        ).length""")
        if cut == 0:
            break
        page.wait_for_timeout(50)
    return cut


_TEXTS = (
    "section > p", "h2", ".subtitle", ".contents a:not([aria-current])", ".tile .note", "thead th",
    "tbody td", ".opener", ".facts dt", ".where", ".copy", ".filter output", ".bottom p",
    ".picture .right", ".picture .wrong", ".remedy .label", ".explained summary",
)  # fmt: skip


def test_dark_follows_the_system_while_open(page: Page) -> None:
    bar = page.locator("#layers-sqnr .point path").first
    expect(bar).to_have_css("fill", "rgb(47, 111, 208)")
    light = _look(page)
    page.emulate_media(color_scheme="dark")
    expect(bar).not_to_have_css("fill", light[2])
    dark = _look(page)
    assert all(before != after for before, after in zip(light, dark, strict=True))
    page.emulate_media(color_scheme="light")
    expect(bar).to_have_css("fill", light[2])
    assert _look(page) == light


def _look(page: Page) -> list[str]:
    look: list[str] = page.evaluate("""() => {
      const body = getComputedStyle(document.body);
      const bar = document.querySelector('#layers-sqnr .point path');
      return [body.backgroundColor, body.color, getComputedStyle(bar).fill];
    }""")
    return look


def test_nothing_moves_once_it_is_shown(path: Path, visits: Visits) -> None:
    page = visits.open(path)
    shift = page.evaluate("""() => new Promise(resolve => {
      let sum = 0;
      new PerformanceObserver(list => { for (const e of list.getEntries()) sum += e.value; })
        .observe({ type: 'layout-shift', buffered: true });
      setTimeout(() => resolve(sum), 150);
    })""")
    assert shift < 0.01


def test_paper_is_white(page: Page) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".contents")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 32, 39)"
    page.set_viewport_size({"width": 800, "height": 1100})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut"


def test_the_outline_is_sound(page: Page) -> None:
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(e => Number(e.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.evaluate("""() => {
      const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
      return ids.length === new Set(ids).size;
    }""")
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert page.locator(landmark).count() == 1
    for link in page.locator(".contents a").all():
        target = link.get_attribute("href") or ""
        assert page.locator(target).count() == 1


def test_without_scripts_text_and_numbers_are_there(path: Path, visits: Visits) -> None:
    page = visits.open(path, scripts=False)
    expect(page.locator(f"{TABLE} tbody tr.row").nth(LAYERS - 1)).to_be_visible()
    expect(page.locator(f"{TABLE} .facts").first).to_be_visible()
    expect(page.locator("#summary > p").first).to_be_visible()
    expect(page.locator(".plot").first).to_be_hidden()
    expect(page.locator("#layers .filter")).to_be_hidden()


def test_the_policy_stops_what_escaping_would_miss(shared: tuple[Visits, Page]) -> None:
    visits, page = shared
    page.evaluate("""() => {
      const script = document.createElement('script');
      script.textContent = 'window.hacked = 1';
      document.body.append(script);
      document.body.insertAdjacentHTML('beforeend',
        '<p onclick="window.hacked = 2" id="trap">x</p>');
      const trap = document.getElementById('trap');
      trap.click();
      trap.remove();
      script.remove();
    }""")
    assert page.evaluate("window.hacked") is None
    assert all("Content Security Policy" in text for text in visits.complaints)
    assert len(visits.complaints) >= 2
    visits.complaints.clear()
