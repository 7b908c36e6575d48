"""The report's page, opened in headless Chromium with the network off."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from capetown.report.figures import FIGURES
from capetown.report.render import page
from tests.browser import Opened
from tests.report.city import CELLS, IMAGE, PIPE, SCRIPT, facts

# Words that stick out of their chart, which hides what does.
CUT_OFF = """[...document.querySelectorAll(".chart svg")].flatMap(svg => {
    const chart = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.left < chart.left - 1 || box.right > chart.right + 1;
    }).map(text => text.textContent);
})"""
# Whether the last of some marks is no longer what it was.
MOVED = "({marks, before}) => [...document.querySelectorAll(marks)].at(-1).outerHTML !== before"
LARGEST = 8_000_000
UNFOLD = "document.querySelectorAll('details').forEach(details => { details.open = true; })"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    path = folder / "index.html"
    path.write_text(page(facts(folder)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(browser: Browser, report: Path) -> Opened:
    tab = Opened(browser, report)
    tab.page.evaluate(UNFOLD)
    return tab


def test_it_opens_from_disk_without_network_or_error(opened: Opened, report: Path) -> None:
    assert opened.requests == []
    assert opened.errors == []
    assert report.stat().st_size < LARGEST


def test_every_figure_is_drawn_and_says_in_words_what_it_shows(opened: Opened) -> None:
    charts = opened.page.locator(".chart")
    assert set(charts.evaluate_all("all => all.map(chart => chart.id)")) == set(FIGURES)
    for name in FIGURES:
        chart = opened.page.locator(f"#{name}")
        assert chart.locator("svg [class^='mark-'] :is(path, text, rect)").count() > 0, name
        assert len(chart.get_attribute("aria-label") or "") > 20, name
    silent = "all => all.filter(image => !image.hasAttribute('alt')).length"
    assert opened.page.locator("img").evaluate_all(silent) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Browser, report: Path, scheme: str) -> None:
    tab = Opened(browser, report, color_scheme=scheme).page
    tab.evaluate(UNFOLD)
    found = Axe().run(tab).response["violations"]
    serious = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:3])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


# --- the map -----------------------------------------------------------------------------------


def tip(tab: Page) -> str:
    tab.locator(".tip").wait_for(state="visible")
    return tab.locator(".tip").inner_text()


def test_the_map_has_every_hexagon_and_a_scale(opened: Opened) -> None:
    assert opened.page.locator("#map svg .hex").count() == len(CELLS)
    assert opened.page.locator("#map svg .scale text").text_content() == "1 km"
    assert opened.page.locator("#map svg .place").all_text_contents() == [SCRIPT]


def test_a_hexagon_tells_its_numbers_when_it_is_pointed_at(opened: Opened) -> None:
    hexagons = opened.page.locator("#map svg .hex")
    hexagons.nth(36).hover()
    said = tip(opened.page)
    for words in (CELLS[36], SCRIPT, "Requests\n36", "2.5 days"):
        assert words in said
    hexagons.nth(0).hover()
    assert f"no requests · {CELLS[0]}" in tip(opened.page)


def test_a_tap_is_enough(browser: Browser, report: Path) -> None:
    settings = {"has_touch": True, "is_mobile": True, "viewport": {"width": 380, "height": 800}}
    tab = Opened(browser, report, **settings).page
    tab.locator("#map svg .hex").nth(20).tap()
    assert CELLS[20] in tip(tab)


def test_the_keyboard_reaches_the_chooser_and_every_hexagon(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    tab.locator("#map-measure").focus()
    reached = []
    for _ in range(3):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate("document.activeElement.id || document.activeElement.nodeName"))
    assert reached == ["map-directorate", "map-zoom", "svg"]
    assert CELLS[36] in tip(tab)  # the one with most requests
    seen = set()
    for key in ("ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown"):
        tab.keyboard.press(key)
        seen.add(tip(tab))
    assert len(seen) > 1
    assert tab.locator("#map-said").text_content()
    tab.keyboard.press("Escape")
    assert tab.locator(".tip").is_hidden()


def test_the_menus_choose_what_is_shown(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    assert tab.locator("#map-directorate option").all_text_contents() == [
        "all directorates", SCRIPT,
    ]  # fmt: skip
    assert "change" not in tab.locator("#map-measure").inner_text()
    legend = tab.locator("#map .legend")
    assert legend.inner_text().splitlines() == [
        "Requests in a hexagon", "1", "2 to 4", "5 to 9", "10 to 19", "20 or more",
    ]  # fmt: skip
    # The colours of numbers stay what they are whoever is chosen, so that two can be compared.
    tab.select_option("#map-directorate", label=SCRIPT)
    assert legend.inner_text().splitlines()[1:] == ["1", "2 to 4", "5 to 9", "10 to 19",
                                                    "20 or more"]  # fmt: skip
    tab.locator("#map svg .hex").nth(20).hover()
    assert "20 (100 %)" in tip(tab)
    tab.select_option("#map-measure", "share")
    assert "75 % or more" in legend.inner_text()
    assert tab.locator("#map svg .hex.q6").count() == len(CELLS) - 5  # those of five or more
    tab.select_option("#map-measure", "days")
    assert tab.locator("#map-directorate").is_disabled()


def test_two_years_can_be_compared(browser: Browser, tmp_path: Path) -> None:
    """In the last twelve months one more request in each of the last hexagons than before."""
    small = facts(tmp_path)
    assert small.requests is not None
    found = small.requests.tables["hexagons"].with_columns(
        requests=pl.lit(12), requests_before=pl.lit(6)
    )
    two = replace(small, requests=type(small.requests)(
        {**small.requests.tables, "hexagons": found}
    ))  # fmt: skip
    path = tmp_path / "index.html"
    path.write_text(page(two), encoding="utf-8")
    tab = Opened(browser, path).page
    tab.select_option("#map-measure", "change")
    assert "double or more" in tab.locator("#map .legend").inner_text()
    assert tab.locator("#map svg .hex.d6").count() == len(CELLS) - 5
    tab.locator("#map svg .hex").nth(20).hover()
    assert "+100 %" in tip(tab)


# --- the threshold -----------------------------------------------------------------------------


def numbers(tab: Page) -> list[int]:
    return [int(text) for text in tab.locator(".matrix [data-live]").all_text_contents()]


def place_of(tab: Page, chart: str, mark: str) -> str:
    marks = tab.locator(f"#{chart} svg {mark}")
    return str(marks.last.evaluate("mark => mark.outerHTML"))


def test_one_threshold_moves_everything(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    slider = tab.locator("#threshold")
    assert slider.input_value() == "0.5"
    # Probabilities fall from 39/40 in steps of 1/40, the first 25 tiles are "yes".
    assert numbers(tab) == [20, 5, 0, 15]
    marks = {
        "probabilities": ".mark-rule.role-mark line",
        "roc": ".mark-symbol.role-mark path",
        "precision-recall": ".mark-symbol.role-mark path",
    }
    before = {chart: place_of(tab, chart, mark) for chart, mark in marks.items()}
    slider.fill("0")
    tab.wait_for_function("document.querySelector('[data-live=found]').textContent === '25'")
    assert numbers(tab) == [25, 0, 15, 0]
    for name, said in {"called": "40", "precision": "63", "recall": "100"}.items():
        assert tab.locator(f"[data-live={name}]").first.text_content() == said
    for chart, mark in marks.items():
        given = {"marks": f"#{chart} svg {mark}", "before": before[chart]}
        tab.wait_for_function(MOVED, arg=given)


def test_costs_choose_the_threshold(browser: Browser, report: Path) -> None:
    """The tiles with a pool are those above 14/40, so between that and 15/40 nothing is wrong."""
    tab = Opened(browser, report).page
    tab.locator("#use-best").click()
    assert numbers(tab) == [25, 0, 0, 15]
    assert tab.locator("[data-live=cost]").text_content() == "0"
    # Alarms cost nothing: any threshold is as good that misses none, and the nearest to one half
    # of those is taken; it is the same. Misses cost nothing: one half itself.
    tab.locator("#cost-of-miss").fill("0")
    tab.locator("#use-best").click()
    assert tab.locator("output[data-live=threshold]").text_content() == "50 %"
    tab.locator("#cost-of-miss").fill("10")
    tab.locator("#threshold").fill("0.9")
    # 4 of 25 pools are at 0.9 or above; of 100 tiles 62 have one: 62 * 21 / 25 missed, 10 each.
    assert tab.locator("[data-live=cost]").text_content() == "521"
    tab.locator("#use-own").click()
    assert numbers(tab) == [20, 5, 0, 15]


# --- the page ----------------------------------------------------------------------------------


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
    assert links.first.is_visible()
    box = links.first.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900


def test_a_figure_can_be_saved_in_its_own_colours(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report).page
    for name in ("roc", "map"):
        figure = tab.locator(f"figure:has(#{name})")
        figure.hover()
        with tab.expect_download() as download:
            figure.get_by_text("Save SVG").click()
        text = Path(download.value.path()).read_text()
        assert download.value.suggested_filename == f"{name}.svg"
        assert "var(" not in text
    with tab.expect_download() as download:
        figure.get_by_text("Save PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("width", [380, 1100, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, report: Path, width: int, scheme: str
) -> None:
    size = {"width": width, "height": 800}
    tab = Opened(browser, report, viewport=size, color_scheme=scheme)
    tab.page.evaluate(UNFOLD)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = ".chart svg, .map svg" + (", table" if width == 380 else "")
    boxes = tab.page.locator(drawn).evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().right)"
    )
    assert max(boxes) <= width
    assert tab.page.evaluate(CUT_OFF) == []
    ground = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(250, 248, 244)", "dark": "rgb(16, 23, 28)"}[scheme]
    assert tab.errors == []


def test_charts_have_the_pages_ink_in_the_dark_and_on_paper(browser: Browser, report: Path) -> None:
    tab = Opened(browser, report, color_scheme="dark").page
    ink = """() => [...new Set([
        getComputedStyle(document.body).color,
        getComputedStyle(document.querySelector("#flow .role-legend-label text")).fill,
        getComputedStyle(document.querySelector("#kinds .mark-text.role-mark text")).fill,
        getComputedStyle(document.querySelector("#probabilities .mark-rule.role-mark line")).stroke,
    ])]"""
    assert tab.evaluate(ink) == ["rgb(230, 237, 240)"]
    tab.emulate_media(media="print")
    assert tab.evaluate(ink) == ["rgb(27, 39, 51)"]
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_on_paper_nothing_is_cut_off_folded_or_asks_to_be_moved(
    browser: Browser, report: Path
) -> None:
    """A sheet of A4 is narrower, without its margins, than the charts are on a large screen."""
    tab = Opened(browser, report, viewport={"width": 1200, "height": 800}).page
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 680, "height": 1010})
    right = """() => Math.max(...[...document.querySelectorAll("svg, table")].map(
        element => element.getBoundingClientRect().right))"""
    assert tab.evaluate(right) <= 680
    text = tab.locator("main").inner_text()
    for words in ("Back to the model", "Point at", "Elsewhere, with as many pools", "Save SVG"):
        assert words not in text
    assert "Make it again with" in text  # of a section that is folded on the screen


def test_names_are_text_and_never_markup(opened: Opened) -> None:
    text = opened.page.locator("main").inner_text()
    for name in (SCRIPT, IMAGE, PIPE):
        assert name in text
    assert opened.page.evaluate("window.hacked") is None
    assert opened.page.locator("img[src=x]").count() == 0


def test_what_spoke_for_an_answer_shows_on_hover_and_focus(opened: Opened) -> None:
    tile = opened.page.locator(".tile button").first
    heat = tile.locator("img").nth(1)
    shown = "image => getComputedStyle(image).opacity"
    assert heat.evaluate(shown) == "0"
    tile.focus()
    opened.page.wait_for_function(f"image => ({shown})(image) === '1'", arg=heat.element_handle())
