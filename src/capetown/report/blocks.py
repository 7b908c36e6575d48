"""Parts of the report beyond text: key figures, confusion matrix, tiles and controls.

Each is Markdown for Git hosts and HTML for the page.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from capetown.report.facts import Facts, short_threshold
from capetown.report.formatting import days, in_html, listed, pace, per_cent
from capetown.report.hexagon_map import STYLE, HexagonMap
from capetown.report.pages import for_markdown, html_block

Tile = Callable[[str, str], Markup]
Rows = Sequence[Mapping[str, Any]]
Values = Mapping[str, Any]


def parts(
    facts: Facts, requests: Values, pools: Values, tile: Tile, *, is_page: bool
) -> dict[str, Any]:
    """The functions and texts that the templates use by name, in HTML if `is_page`.

    `tile` gives a picture of `evaluation/` by its name and its alternative text.
    """
    return {
        "pace": pace,
        "key_figures": _key_figures(facts, requests, pools, is_page=is_page),
        "open": lambda css: Markup(f'<div class="{css}">\n') if is_page else "",
        "close": Markup("</div>\n") if is_page else "",
        "notice": Markup('<div class="notice">\n\n') if is_page else "",
        "end_notice": Markup("\n\n</div>\n") if is_page else "",
        "live": lambda name, value: _live(name, value) if is_page else value,
        "with_shares": lambda rows: listed([f"{r['name']} ({per_cent(r['share'])})" for r in rows]),
        "names": lambda rows: listed([row["name"] for row in rows]),
        "lab": _lab(facts, pools) if is_page and pools else "",
        "matrix": _matrix(pools["counts"], is_page=is_page) if pools else "",
        "mistakes": lambda rows: _mistakes(rows, tile, is_page=is_page),
        "samples": lambda rows: _samples(rows, tile, is_page=is_page),
    }


def map_widget(name: str, drawn: HexagonMap, caption: str, alt: str) -> Markup:
    """A map with its menu, legend and tooltip."""
    return html_block(
        "report/map.html.j2", name=name, map=drawn, svg=Markup(drawn.svg), style=Markup(STYLE),
        caption=caption, alt=alt,
    )  # fmt: skip


def _key_figures(facts: Facts, requests: Values, pools: Values, *, is_page: bool) -> Markup:
    """The most important numbers with their names: as cards on the page, or as a table."""
    found: list[tuple[str, str, str, str]] = []
    if requests:
        metrics, count, tops = requests["metrics"], requests["count"], requests["top_types"]
        found.append(("requests", "Requests", f"{count:,}",
                      f"{metrics['requests_a_day'] or 0:,.0f} a day"))  # fmt: skip
        if tops:
            found.append(("requests", "Commonest", per_cent(tops[0]["share"]), tops[0]["name"]))
        found += [
            ("requests", "Half dealt with in", days(metrics["median_days_to_completion"]),
             f"nine in ten in {days(metrics['p90_days_to_completion'])}"),
            ("requests", "Open at the end", f"{metrics['open_at_the_end']:,}",
             f"{per_cent(metrics['open_at_the_end'] / count)} of all requests"),
        ]  # fmt: skip
    if pools:
        test = facts.evaluate
        interval = "too few tiles for an interval"
        bounds = test["intervals"]["balanced_accuracy"]
        if pools["has_intervals"] and None not in bounds:
            interval = f"95 % interval {100 * bounds[0]:.0f} to {100 * bounds[1]:.0f} %"
        found.append(("pools", "Pool finder", per_cent(test["balanced_accuracy"]),
                      f"balanced accuracy, {interval}; guessing gives 50 %"))  # fmt: skip
    if is_page:
        items = "".join(
            f'<li class="{css}"><span>{in_html(name)}</span><strong>{in_html(value)}</strong>'
            f"<span>{in_html(words)}</span></li>"
            for css, name, value, words in found
        )
        return Markup(f'<ul class="key-figures">{items}</ul>')
    rows = [
        f"| {for_markdown(name)} | **{for_markdown(value)}** | {for_markdown(words)} |"
        for _, name, value, words in found
    ]
    return Markup("\n".join(["| | | |", "| --- | --- | --- |", *rows]))


def _live(name: str, value: Any) -> Markup:
    """A number that follows the threshold."""
    return Markup(f'<span data-live="{in_html(name)}">{in_html(value)}</span>')


def _lab(facts: Facts, pools: Values) -> Markup:
    """The controls that move the threshold."""
    return html_block(
        "report/lab.html.j2", threshold=short_threshold(facts),
        pools_in_100=round(100 * pools["share_with_pool"]),
    )  # fmt: skip


def _matrix(counts: Mapping[str, int], *, is_page: bool) -> Markup:
    """The confusion matrix at the threshold."""
    names = {
        "found": counts["true_positives"], "missed": counts["false_negatives"],
        "alarms": counts["false_positives"], "left": counts["true_negatives"],
    }  # fmt: skip
    if not is_page:
        return Markup(
            "| | The model says “pool” | The model says “no pool” |\n| --- | ---: | ---: |\n"
            f"| **There is a pool** | {names['found']} found | {names['missed']} missed |\n"
            f"| **There is none** | {names['alarms']} false alarms | {names['left']} left alone |"
        )
    cells = {name: _live(name, value) for name, value in names.items()}
    return Markup(
        '<table class="matrix"><caption class="hidden">Right and wrong calls at the threshold'
        "</caption><thead><tr><td></td><th scope=col>The model says “pool”</th>"
        "<th scope=col>The model says “no pool”</th></tr></thead><tbody>"
        f'<tr><th scope=row>There is a pool</th><td class="right">{cells["found"]}<small>found'
        f'</small></td><td class="wrong">{cells["missed"]}<small>missed</small></td></tr>'
        f'<tr><th scope=row>There is none</th><td class="wrong">{cells["alarms"]}<small>false '
        f'alarms</small></td><td class="right">{cells["left"]}<small>left alone</small></td></tr>'
        "</tbody></table>"
    )


def _mistakes(rows: Rows, tile: Tile, *, is_page: bool) -> Markup:
    """Wrongly classified tiles, each with the saliency of the model's answer."""
    named = [
        (row, row["path"].rsplit("/", 1)[-1], f"{100 * row['probability']:.0f} %") for row in rows
    ]
    if is_page:
        items = "".join(
            f'<li class="tile"><button type="button" aria-label="'
            f'{in_html(f"Tile {name}, probability {p}: show what spoke for the answer")}">'
            f"{tile(row['tile'], '')}{tile(row['saliency'], '')}</button>"
            f"<b>{p}</b> {in_html(name)}</li>"
            for row, name, p in named
        )
        return Markup(
            f'<p class="screen">Point at a tile, or tap it, to see from red to yellow what spoke '
            f'for the model\'s answer.</p><ul class="tiles">{items}</ul>'
        )
    lines = [
        f"| {tile(row['tile'], f'Tile {name}')} "
        f"| {tile(row['saliency'], f'What the model saw in {name}')} "
        f"| {p} | {for_markdown(name)} |"
        for row, name, p in named
    ]
    head = ["| Tile | What it saw | Probability | Name |", "| --- | --- | ---: | --- |"]
    said = "The second picture shows, from red to yellow, what spoke for the model's answer."
    return Markup("\n".join([said, "", *head, *lines]))


def _samples(rows: Rows, tile: Tile, *, is_page: bool) -> Markup:
    pictures = [tile(row["tile"], row["path"].rsplit("/", 1)[-1]) for row in rows]
    if is_page:
        items = "".join(f'<li class="tile">{picture}</li>' for picture in pictures)
        return Markup(f'<ul class="tiles">{items}</ul>')
    cells = " | ".join(pictures)
    return Markup(f"|{' |' * len(rows)}\n|{' --- |' * len(rows)}\n| {cells} |")
