"""The report's page in headless Chromium, with the network off."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from capetown.report.render import CHART_NAMES, page
from tests.browser import Opened
from tests.report.city import CELLS, IMAGE, PIPE, SCRIPT, facts

# Texts that stick out of their chart, which clips them.
CUT_OFF = """[...document.querySelectorAll(".chart svg")].flatMap(svg => {
    const chart = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < chart.left - 1 || box.right > chart.right + 1;
    }).map(text => text.textContent);
})"""
# The largest right edge among some elements.
RIGHT = """selector => Math.max(...[...document.querySelectorAll(selector)].map(
    element => element.getBoundingClientRect().right))"""
# The threshold in the charts.
MARKS = ("#probabilities svg .mark-rule.role-mark line", "#roc svg .mark-symbol.role-mark path",
         "#precision-recall svg .mark-symbol.role-mark path")  # fmt: skip
# Whether the last of some marks has changed.
MOVED = "({marks, before}) => [...document.querySelectorAll(marks)].at(-1).outerHTML !== before"
INK = """() => [...new Set([
    getComputedStyle(document.body).color,
    getComputedStyle(document.querySelector("#flow .role-legend-label text")).fill,
    getComputedStyle(document.querySelector("#kinds .mark-text.role-mark text")).fill,
    getComputedStyle(document.querySelector("#probabilities .mark-rule.role-mark line")).stroke,
])]"""
GROUND = "getComputedStyle(document.body).backgroundColor"
UNFOLD = "document.querySelectorAll('details').forEach(details => { details.open = true; })"
LARGEST = 8_000_000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "index.html"
    path.write_text(page(facts(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def light(browser: Browser, report: Path) -> Opened:
    return unfolded(browser, report, color_scheme="light")


def unfolded(browser: Browser, report: Path, **settings: object) -> Opened:
    tab = Opened(browser, report, **settings)
    tab.page.evaluate(UNFOLD)
    return tab


def test_the_page_is_complete_offline_and_accessible(light: Opened, report: Path) -> None:
    assert light.requests == []
    assert light.errors == []
    assert light.page.evaluate(GROUND) == "rgb(250, 248, 244)"
    assert report.stat().st_size < LARGEST
    charts = light.page.locator(".chart")
    assert set(charts.evaluate_all("all => all.map(chart => chart.id)")) == set(CHART_NAMES)
    for name in CHART_NAMES:
        chart = light.page.locator(f"#{name}")
        assert chart.locator("svg [class^='mark-'] :is(path, text, rect)").count() > 0, name
        assert len(chart.get_attribute("aria-label") or "") > 20, name
    silent = "all => all.filter(image => !image.hasAttribute('alt')).length"
    assert light.page.locator("img").evaluate_all(silent) == 0
    assert_accessible(light.page)
    text = light.page.locator("main").inner_text()
    for name in (SCRIPT, IMAGE, " ".join(PIPE.split())):
        assert name in text  # and not in the markup
    assert light.page.evaluate("window.hacked") is None
    assert light.page.locator("img[src=x]").count() == 0


def test_the_dark_page_is_accessible_and_fits_on_paper(browser: Browser, report: Path) -> None:
    """A sheet of A4 without its margins is narrower than the charts on a large screen."""
    size = {"width": 1400, "height": 800}
    dark = unfolded(browser, report, color_scheme="dark", viewport=size)
    assert_accessible(dark.page)
    assert dark.page.evaluate(INK) == ["rgb(230, 237, 240)"]
    assert dark.page.evaluate(GROUND) == "rgb(16, 23, 28)"
    assert_fits(dark, 1400)
    dark.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    dark.page.emulate_media(media="print")
    dark.page.set_viewport_size({"width": 680, "height": 1010})
    assert dark.page.evaluate(INK) == ["rgb(27, 39, 51)"]
    assert dark.page.evaluate(GROUND) == "rgb(255, 255, 255)"
    assert dark.page.evaluate(RIGHT, "svg, table") <= 680
    text = dark.page.locator("main").inner_text()
    for words in ("Back to the model", "Point at", "Elsewhere, with as many pools", "Save SVG"):
        assert words not in text
    assert "Make it again with" in text  # in a section that is folded on the screen


def assert_accessible(tab: Page) -> None:
    found = Axe().run(tab).response["violations"]
    serious = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize("width", [380, 1100])
def test_the_page_fits_the_screen(browser: Browser, report: Path, width: int) -> None:
    assert_fits(unfolded(browser, report, viewport={"width": width, "height": 800}), width)


def assert_fits(tab: Opened, width: int) -> None:
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = ".chart svg, .map svg" + (", table" if width == 380 else "")
    assert tab.page.evaluate(RIGHT, drawn) <= width
    assert tab.page.evaluate(CUT_OFF) == []
    assert tab.errors == []


def test_focus_on_a_tile_shows_its_saliency(light: Opened) -> None:
    tile = light.page.locator(".tile button").first
    saliency = tile.locator("img").nth(1)
    shown = "image => getComputedStyle(image).opacity"
    assert saliency.evaluate(shown) == "0"
    tile.focus()
    light.page.wait_for_function(
        f"image => ({shown})(image) === '1'", arg=saliency.element_handle()
    )


def tip(tab: Page, name: str = "map") -> str:
    found = tab.locator(f"#{name} .tip")
    found.wait_for(state="visible")
    return found.inner_text()


def test_maps_show_details_and_layers(light: Opened) -> None:
    hexagons = light.page.locator("#map svg .hex")
    assert hexagons.count() == len(CELLS)
    assert light.page.locator("#map svg .scale text").text_content() == "1 km"
    assert light.page.locator("#map svg .place").all_text_contents() == [SCRIPT]
    hexagons.nth(36).hover()
    for words in (CELLS[36], SCRIPT, "Requests\n36", "2.5 days"):
        assert words in tip(light.page)
    hexagons.nth(0).hover()
    assert f"no requests · {CELLS[0]}" in tip(light.page)

    menu = light.page.locator("figure:has(#map) select")
    legend = light.page.locator("#map .legend")
    counts = ["1", "2 to 4", "5 to 9", "10 to 19", "20 or more"]
    assert legend.inner_text().splitlines() == ["Requests in a hexagon", *counts]
    menu.select_option("2")
    assert legend.inner_text().splitlines() == [f"Requests in a hexagon, {SCRIPT}", *counts]
    hexagons.nth(20).hover()
    assert "18 (90 %)" in tip(light.page)
    menu.select_option("4")
    assert "75 % or more" in legend.inner_text()
    assert light.page.locator("#map svg .hex.q6").count() == len(CELLS) - 6  # of six or more

    light.page.locator("#pools svg .hex").nth(3).hover()
    assert "Expected to have a pool\n2.2" in tip(light.page, "pools")
    assert light.page.locator("#pools .legend").inner_text().splitlines()[1:] == [
        "under 2", "2 or more",
    ]  # fmt: skip


def test_taps_and_keys_reach_the_hexagons(browser: Browser, report: Path) -> None:
    settings = {"has_touch": True, "is_mobile": True, "viewport": {"width": 380, "height": 800}}
    tab = Opened(browser, report, **settings).page
    tab.locator("#map svg .hex").nth(20).tap()
    assert CELLS[20] in tip(tab)
    tab.locator("figure:has(#map) select").focus()
    for name in ("BUTTON", "svg"):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.nodeName") == name
    assert CELLS[36] in tip(tab)  # the one with most requests
    seen = set()
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        tab.keyboard.press(key)
        seen.add(tip(tab))
    assert len(seen) > 1
    assert tab.locator("#map [aria-live]").text_content()
    tab.keyboard.press("Escape")
    assert tab.locator("#map .tip").is_hidden()


def confusion(tab: Page) -> list[int]:
    return [int(text) for text in tab.locator(".matrix [data-live]").all_text_contents()]


def test_one_threshold_moves_everything_and_costs_choose_it(browser: Browser, report: Path) -> None:
    """Probabilities fall from 39/40 in steps of 1/40; the first 25 tiles are "yes"."""
    tab = Opened(browser, report).page
    slider = tab.locator("#threshold")
    assert slider.input_value() == "0.5"
    assert confusion(tab) == [20, 5, 0, 15]
    before = {mark: tab.locator(mark).last.evaluate("mark => mark.outerHTML") for mark in MARKS}
    slider.fill("0")
    tab.wait_for_function("document.querySelector('[data-live=found]').textContent === '25'")
    assert confusion(tab) == [25, 0, 15, 0]
    for name, said in {"called": "40", "precision": "63", "recall": "100"}.items():
        assert tab.locator(f"[data-live={name}]").first.text_content() == said
    for mark, last in before.items():
        tab.wait_for_function(MOVED, arg={"marks": mark, "before": last})

    # Between 14/40 and 15/40 nothing is wrong.
    tab.locator("#use-best").click()
    assert confusion(tab) == [25, 0, 0, 15]
    assert tab.locator("[data-live=cost]").text_content() == "0"
    # Misses cost nothing: of the equally cheap thresholds it takes the one nearest to one half.
    tab.locator("#cost-of-miss").fill("0")
    tab.locator("#use-best").click()
    assert tab.locator("output[data-live=threshold]").text_content() == "50 %"
    tab.locator("#cost-of-miss").fill("10")
    slider.fill("0.9")
    # 4 of 25 pools are at 0.9 or above; of 100 tiles 62 have one: 62 * 21 / 25 missed, 10 each.
    assert tab.locator("[data-live=cost]").text_content() == "521"
    tab.locator("#use-own").click()
    assert confusion(tab) == [20, 5, 0, 15]


def test_the_contents_stay_in_view_and_lead_to_the_sections(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report, viewport={"width": 1400, "height": 900}).page
    links = tab.locator("nav a")
    titles = links.all_text_contents()
    assert titles[:3] == ["In one minute", "What residents ask for", "Where the requests come from"]
    folded = tab.locator("details:not([open]) h2").all_text_contents()
    assert folded == titles[-3:]
    for n in range(links.count()):
        target = links.nth(n).get_attribute("href") or ""
        assert tab.locator(f"section{target} h2").text_content() == titles[n]
    links.last.click()
    assert tab.locator("details:not([open]) h2").all_text_contents() == titles[-3:-1]
    box = links.first.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900


def test_charts_and_maps_can_be_saved_in_their_colours(light: Opened) -> None:
    for name in ("roc", "map"):
        figure = light.page.locator(f"figure:has(#{name})")
        figure.hover()
        with light.page.expect_download() as download:
            figure.get_by_text("Save SVG").click()
        text = Path(download.value.path()).read_text()
        assert download.value.suggested_filename == f"{name}.svg"
        assert "var(" not in text
    with light.page.expect_download() as download:
        figure.get_by_text("Save PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
