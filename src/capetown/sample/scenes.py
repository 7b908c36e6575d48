"""What a tile shows: streets of houses, works and yards, or open land, as a sheet's `Style` has it.

`draw` makes one tile's scene. Lengths are metres, angles radians, colours sRGB from 0 to 255.
"""

import numpy as np

from capetown.sample.canvas import Array, Canvas, Mask, rectangle, turn
from capetown.sample.gardens import court, decoy
from capetown.sample.plots import Plot, furnish, park, plant
from capetown.sample.styles import BLUES, Style, pick, vary

STREET = 11.0


def draw(look: Style, with_pool: bool, rng: np.random.Generator) -> tuple[Array, Mask]:
    """One tile's scene: its lit picture `(384, 384, 3)`, 0 to 255, and the pixels of its pools."""
    canvas = Canvas(look.metres, rng)
    canvas.meadow(None, look.soil, look.grass, 2.4 * (look.green - 0.45))
    places = {"works": (0.3, 0.55, 0.15), "open": (0.3, 0.05, 0.65)}.get(
        look.suburb, (0.85, 0.05, 0.1)
    )
    weights = np.array(places) * ((1, 0.3, 0.35) if with_pool else (1, 3, 5))
    kind = rng.choice(("houses", "works", "land"), p=weights / weights.sum())
    plots, streets = lay_out(canvas, look)
    if kind == "works":
        works(canvas, look, plots)
    if kind == "land":
        land(canvas, look)
    if kind != "houses":
        plots = [plots[i] for i in rng.permutation(len(plots))[: rng.integers(1, 4)]]
        plots = plots if with_pool or rng.random() < 0.5 else []
        streets = streets if kind == "works" else streets[: int(rng.integers(0, 2))]
    for street in streets:
        lay_road(canvas, look, street, rng.uniform(5, 7.5))
    inside = [i for i, plot in enumerate(plots) if in_view(look, plot)] or range(len(plots))
    first = int(rng.choice(inside)) if plots else 0
    for i, plot in enumerate(plots):
        furnish(canvas, look, plot, with_pool and (i == first or rng.random() < 0.3))
    for _ in range(rng.poisson(look.trees * 6)):
        plant(canvas, look, rng.uniform(0, look.metres, 2).astype(np.float32), 4.5)
    return canvas.light(look.azimuth, look.elevation, look.ambient), canvas.pool


def in_view(look: Style, plot: Plot) -> bool:
    """Whether the plot's garden lies on the tile."""
    x, y = plot.at(0, plot.depth * 0.75)
    return bool(0 < x < look.metres and 0 < y < look.metres)


def lay_out(canvas: Canvas, look: Style) -> tuple[list[Plot], list[Array]]:
    """Plots along bent, nearly parallel streets that cover the tile, and the streets' lines."""
    rng = canvas.rng
    angle = look.angle + rng.choice((0, np.pi / 2)) + rng.normal(0, 0.05)
    width, depth = look.plot
    middle = np.array([look.metres / 2] * 2)
    reach = look.metres * 0.75
    bend = rng.normal(0, 0.0022)
    offset = rng.uniform(-0.5, 0.5) * (2 * depth + STREET)
    plots: list[Plot] = []
    streets: list[Array] = []

    def on_map(x: Array | float, y: float) -> Array:
        across = np.asarray(x)
        curve = turn(np.stack([across, y + bend * across**2], -1), angle) + middle
        return np.asarray(curve, np.float32)

    for row in (-1, 0, 1):
        y = row * (2 * depth + STREET) + offset
        streets.append(on_map(np.linspace(-reach * 1.3, reach * 1.3, 24, dtype=np.float32), y))
        for side in (1, -1):
            x = -reach - rng.uniform(0, width)
            while x < reach:
                wide = width * rng.uniform(0.85, 1.2)
                centre = x + wide / 2
                facing = angle + np.arctan(2 * bend * centre) + (0 if side == 1 else np.pi)
                front = on_map(centre, y) + turn((0, STREET / 2), facing)
                plots.append(Plot(front, facing, wide, depth))
                x += wide
    margin = look.metres / 2 + (width + depth) / 3
    near = [p for p in plots if np.abs(p.at(0, depth / 2) - middle).max() < margin]
    return near, streets


def lay_road(canvas: Canvas, look: Style, line: Array, width: float) -> None:
    """An asphalt road with pavements, a worn middle line, patches, and cars along the kerbs."""
    rng = canvas.rng
    ahead = np.gradient(line, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], 1)
    asphalt = vary(rng, (126, 124, 121), 12)

    def band(inner: float, outer: float, part: slice = slice(None)) -> Array:
        edges = [(line + aside * inner)[part], (line + aside * outer)[part][::-1]]
        return np.concatenate(edges).astype(np.float32)

    half = width / 2
    canvas.meadow(band(-half - 2.6, half + 2.6), look.soil, look.grass, look.green)
    for side in (-1, 1):
        if rng.random() < 0.7:
            pavement = vary(rng, look.paved, 8)
            canvas.paint(band(side * half, side * (half + rng.uniform(0.8, 1.8))), pavement)
    canvas.paint(band(-half, half), asphalt, (0.04, 0.03, 0.05), height=0)
    if rng.random() < 0.5:
        for i in range(0, 23, int(rng.integers(1, 3))):
            canvas.paint(band(-0.08, 0.08, slice(i, i + 2)), asphalt + 45)
    for _ in range(rng.poisson(2)):
        i = int(rng.integers(0, 22))
        inner = rng.uniform(-half, half - 1)
        canvas.paint(band(inner, inner + rng.uniform(0.5, 2), slice(i, i + 2)), asphalt * 0.85)
    for _ in range(rng.poisson(3)):
        i = int(rng.integers(1, 24))
        lane = rng.choice((-1, 1)) * (half - rng.uniform(0.9, 2.2))
        park(canvas, line[i] + aside[i] * lane, float(np.arctan2(ahead[i, 1], ahead[i, 0])))


def works(canvas: Canvas, look: Style, plots: list[Plot]) -> None:
    """Warehouses or blocks of flats with flat or shallow roofs, and yards of cars and boxes."""
    rng = canvas.rng
    for plot in plots:
        yard = vary(rng, (140, 137, 132), 14)
        box = plot.box(0, plot.depth / 2, plot.width, plot.depth)
        canvas.paint(box, yard, (0.04, 0.06, 0.06), height=0)
        size = (plot.width * rng.uniform(0.6, 1.0), plot.depth * rng.uniform(0.35, 0.7))
        inward = plot.depth - size[1] / 2 - 1
        colour = pick(rng, (*look.roofs, (190, 190, 186), (160, 160, 158)), 10)
        style = str(rng.choice(("flat", "gable")))
        eaves, ribs = rng.uniform(5, 9), rng.uniform(0.01, 0.06)
        canvas.roof(plot.at(0, inward), size, plot.angle, colour, style, eaves, 0.15, ribs)
        for _ in range(rng.poisson(5)):
            x, y = rng.uniform(-0.42, 0.42, 2) * size
            length, width = rng.uniform(0.7, 2.4, 2)
            thing = rectangle(plot.at(x, inward + y), length, width, plot.angle)
            canvas.paint(thing, vary(rng, (185, 185, 182), 30), height=eaves + rng.uniform(0.8, 2))
        room = plot.depth - size[1] - 2
        for x in np.arange(-plot.width / 2 + 2, plot.width / 2 - 1, 2.7):
            if room > 6 and rng.random() < 0.55:
                park(canvas, plot.at(x, room - 3), plot.angle + np.pi / 2)
        for _ in range(rng.poisson(0.8)):
            spot = plot.box(rng.uniform(-0.4, 0.4) * plot.width, rng.uniform(1, 5), 6.1, 2.4)
            colour = pick(rng, (*BLUES[:2], (150, 72, 52), (120, 124, 128), (90, 110, 92)))
            canvas.paint(spot, colour, height=2.6)


def land(canvas: Canvas, look: Style) -> None:
    """Open land: woods, scrub, a vineyard, dunes or a sports ground."""
    rng = canvas.rng
    span = look.metres
    kind = rng.choice(("wood", "scrub", "vines", "sand", "sport"), p=(0.3, 0.3, 0.13, 0.12, 0.15))
    if kind == "sand":
        canvas.meadow(None, vary(rng, (206, 192, 164), 8), look.grass, -2.2)
    if kind == "vines":
        rows = turn(np.array([[-span, 0], [span, 0]]), look.angle)
        for step in np.arange(-span, span, 2.4):
            start, end = rows + turn((0, step), look.angle) + span / 2
            stem = rectangle((start + end) / 2, 2 * span, 0.9, look.angle)
            canvas.paint(stem, vary(rng, look.leaf * 1.15, 4), (0.12, 0.14, 0.05), height=1.2)
    if kind == "sport":
        canvas.meadow(None, look.soil, vary(rng, look.grass, 5), 1.8)
        first = rng.uniform(0.1, 0.9, 2).astype(np.float32) * span
        for number in range(rng.integers(1, 4)):
            court(canvas, look, first + turn((0, 19 * number), look.angle), look.angle)
    count = {"wood": 0.075, "scrub": 0.05, "sand": 0.012}.get(str(kind), 0.003) * span**2
    for _ in range(rng.poisson(count)):
        spot = rng.uniform(-3, span + 3, 2).astype(np.float32)
        plant(canvas, look, spot, 5.0 if kind == "wood" else 2.0)
    for _ in range(rng.poisson(0.7)):
        spot = rng.uniform(0.05, 0.95, 2).astype(np.float32) * span
        decoy(canvas, look, spot, float(rng.uniform(0, np.pi)))
