"""Scenes: streets of houses, works and yards, a park, open land, as its `Style` has it.

`draw` makes a scene, from which tiles are cut. Lengths are metres, angles radians, colours sRGB
from 0 to 255.
"""

import numpy as np

from tools.synthetic.canvas import Array, Canvas, Mask, rectangle, turn
from tools.synthetic.gardens import court, decoy, window_of
from tools.synthetic.plots import Plot, furnish, park, plant
from tools.synthetic.styles import BLUES, Style, pick, vary

STREET = 11.0


def draw(look: Style, metres: float, pixels: int, rng: np.random.Generator) -> tuple[Array, Mask]:
    """A square of land.

    Args:
        look: of the scene.
        metres: its side.
        pixels: its side.
        rng: of everything random in it.

    Returns:
        The lit picture, 0 to 255, shape (pixels, pixels, 3), and True where a pool shows.
    """
    canvas = Canvas(metres, pixels, rng)
    canvas.meadow(None, look.soil, look.grass, 2.4 * (look.green - 0.45))
    plots, streets = lay_out(canvas, look)
    if look.suburb == "open":
        land(canvas, look)
        plots = [plot for plot in plots if rng.random() < 0.15]
        streets = streets[: rng.integers(1, 3)]
    for street in streets:
        lay_road(canvas, look, street, rng.uniform(5, 7.5))
    # A part of the scene is a park, or works and yards; in an industrial area all but a part is.
    middle, reach = rng.uniform(0, metres, 2), rng.uniform(0.1, 0.35) * metres
    kind = rng.choice(("park", "works", "houses"), p=(0.3, 0.3, 0.4))
    for plot in plots:
        within = np.linalg.norm(plot.at(0, plot.depth / 2) - middle) < reach
        if (kind == "works" and within) or (look.suburb == "works" and not within):
            works(canvas, look, plot)
        elif kind == "park" and within:
            for _ in range(rng.poisson(3)):
                spot = plot.at(rng.uniform(-0.5, 0.5) * plot.width, rng.uniform(0, 1) * plot.depth)
                plant(canvas, look, spot, 5.0)
        else:
            # Neighbours are as rich as each other, more or less.
            row, column = window_of(canvas, plot.at(0, plot.depth / 2))
            share = look.pools * np.exp(0.8 * canvas.coarse[row, column])
            furnish(canvas, look, plot, rng.random() < share)
    for _ in range(rng.poisson(look.trees * metres**2 / 500)):
        plant(canvas, look, rng.uniform(0, metres, 2).astype(np.float32), 4.5)
    return canvas.light(look.azimuth, look.elevation, look.ambient), canvas.pool


def lay_out(canvas: Canvas, look: Style) -> tuple[list[Plot], list[Array]]:
    """Plots along bent, nearly parallel streets that cover the scene, and the streets' lines."""
    rng = canvas.rng
    angle = look.angle + rng.choice((0, np.pi / 2)) + rng.normal(0, 0.05)
    width, depth = look.plot
    span = canvas.metres
    middle = np.array([span / 2] * 2)
    reach = span * 0.75
    # A street leaves its tangent by some 5 % of the span at the scene's edge.
    bend = rng.normal(0, 0.2) / span
    offset = rng.uniform(-0.5, 0.5) * (2 * depth + STREET)
    plots: list[Plot] = []
    streets: list[Array] = []

    def on_map(x: Array | float, y: float) -> Array:
        across = np.asarray(x)
        curve = turn(np.stack([across, y + bend * across**2], -1), angle) + middle
        return np.asarray(curve, np.float32)

    rows = int(np.ceil(reach / (2 * depth + STREET)))
    for row in range(-rows, rows + 1):
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
    margin = span / 2 + (width + depth) / 3
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


def works(canvas: Canvas, look: Style, plot: Plot) -> None:
    """A warehouse or a block of flats with a flat or shallow roof, and a yard of cars and boxes."""
    rng = canvas.rng
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
    span = canvas.metres
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
        for number in range(rng.integers(2, 6)):
            court(canvas, look, first + turn((0, 19 * number), look.angle), look.angle)
    count = {"wood": 0.075, "scrub": 0.05, "sand": 0.012}.get(str(kind), 0.003) * span**2
    for _ in range(rng.poisson(count)):
        spot = rng.uniform(-3, span + 3, 2).astype(np.float32)
        plant(canvas, look, spot, 5.0 if kind == "wood" else 2.0)
    for _ in range(rng.poisson(span**2 / 4_000)):
        spot = rng.uniform(0.05, 0.95, 2).astype(np.float32) * span
        decoy(canvas, look, spot, float(rng.uniform(0, np.pi)))
