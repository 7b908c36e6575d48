"""Plots of land: the house, the walls and hedges, the garden and what stands in it."""

from dataclasses import dataclass

import numpy as np

from tools.synthetic.canvas import Array, Canvas, rectangle, turn
from tools.synthetic.gardens import decoy, panels, pool
from tools.synthetic.styles import CARS, Style, pick, vary


@dataclass(frozen=True)
class Plot:
    """A plot of land: the middle of its street side, the way inwards, and its size."""

    front: Array
    angle: float
    width: float
    depth: float

    def at(self, across: float, inward: float) -> Array:
        """The point `across` metres from the middle line and `inward` metres from the street."""
        return self.front + turn((across, inward), self.angle)

    def box(self, across: float, inward: float, width: float, depth: float) -> Array:
        """Corners of a rectangle square to the plot, centred at such a point."""
        return rectangle(self.at(across, inward), width, depth, self.angle)


def park(canvas: Canvas, centre: Array, angle: float) -> None:
    """A car: body, dark windows, roof."""
    colour = pick(canvas.rng, CARS)
    angle += canvas.rng.normal(0, 0.05)
    middle = centre - turn((0.3, 0), angle)
    canvas.paint(rectangle(centre, 4.3, 1.8, angle), colour, height=0.9)
    canvas.paint(rectangle(middle, 2.5, 1.6, angle), colour * 0.35, height=1.2)
    canvas.paint(rectangle(middle, 1.5, 1.5, angle), colour, height=1.4)


def plant(canvas: Canvas, look: Style, centre: Array, largest: float) -> None:
    """One tree or bush, up to `largest` metres in radius."""
    rng = canvas.rng
    radius = float(max(rng.uniform(0, 1) ** 1.4, 0.22) * largest)
    colour = vary(rng, look.leaf, 9) + rng.uniform(-1, 1) * np.array([12, 4, -4])
    canvas.crown(centre, radius, radius * rng.uniform(1.0, 2.0), np.clip(colour, 10, 240))


def build_house(canvas: Canvas, look: Style, plot: Plot) -> float:
    """The house, its drive and its car; returns how far inwards the house reaches."""
    rng = canvas.rng
    colour = pick(rng, look.roofs, 8)
    angle = plot.angle + rng.normal(0, 0.03)
    setback = rng.uniform(0.08, 0.24) * plot.depth
    width = plot.width * rng.uniform(0.5, 0.8)
    depth = min(rng.uniform(0.26, 0.4) * plot.depth, 14.0)
    shift = rng.choice((-1, 1)) * (plot.width - width) / 2 * rng.uniform(0.3, 0.9)
    style = str(rng.choice(("hip", "gable", "flat"), p=(0.45, 0.35, 0.2)))
    eaves = 2.8 if rng.random() < 0.75 else 5.6
    pitch, ribs = rng.uniform(0.25, 0.55), rng.uniform(0.01, 0.06)
    side = -np.sign(shift) * (plot.width / 2 - 2.2)
    drive = vary(rng, look.paved * rng.uniform(0.75, 1.05), 10)
    canvas.paint(plot.box(side, setback / 2 + 1, 3.2, setback + 3), drive, height=0)
    middle = setback + depth / 2
    canvas.roof(plot.at(shift, middle), (width, depth), angle, colour, style, eaves, pitch, ribs)
    for _ in range(rng.integers(0, 3)):
        wing = (rng.uniform(0.4, 1.0) * depth + 4, width * rng.uniform(0.25, 0.45))
        aside = shift + rng.uniform(-1, 1) * (width - wing[1]) / 2
        spot = plot.at(aside, middle + rng.choice((-0.6, 1)) * (wing[0] - depth) / 2)
        canvas.roof(spot, wing, angle + np.pi / 2, colour, style, eaves, pitch, ribs)
    if rng.random() < 0.4:
        canvas.roof(plot.at(side, setback + 5), (3.6, 6), angle, pick(rng, look.roofs), "flat", 2.4)
    for _ in range(rng.poisson(1.2)):
        spot = plot.at(shift + rng.uniform(-0.4, 0.4) * width, middle + rng.normal(0, 1.5))
        size, shade = rng.uniform(0.4, 1.1), vary(rng, (170, 160, 150), 25)
        canvas.paint(rectangle(spot, size, size, angle), shade, height=eaves + 2.2)
    if rng.random() < 0.2:
        panels(canvas, look, plot.at(shift, middle - depth * 0.22), angle)
    if rng.random() < 0.6:
        park(canvas, plot.at(side, rng.uniform(2.5, 4 + setback / 2)), plot.angle + np.pi / 2)
    return float(setback + depth + 1)


def enclose(canvas: Canvas, look: Style, plot: Plot) -> None:
    """Walls or hedges along the plot's sides and back."""
    rng = canvas.rng
    wall = vary(rng, look.paved, 16)
    half, depth = plot.width / 2, plot.depth
    for start, end in (
        ((-half, 0.0), (-half, depth)),
        ((half, 0.0), (half, depth)),
        ((-half, depth), (half, depth)),
    ):
        if rng.random() < 0.35 * look.trees:
            for share in np.arange(0, 1, 1.5 / max(depth, 4)):
                spot = plot.at(*(np.add(start, np.subtract(end, start) * share)))
                size = rng.uniform(0.9, 1.5)
                canvas.crown(spot, size, 2 * size, vary(rng, look.leaf * 0.95, 5))
        elif rng.random() < 0.8:
            (x0, y0), (x1, y1) = start, end
            box = plot.box((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0 + 0.3, y1 - y0 + 0.3)
            canvas.paint(box, wall, height=1.5)


def furnish(canvas: Canvas, look: Style, plot: Plot, with_pool: bool) -> None:
    """One plot: ground, fence, house, and in the garden a pool, a decoy or neither, and trees."""
    rng = canvas.rng
    box = plot.box(0, plot.depth / 2, plot.width, plot.depth)
    canvas.meadow(box, look.soil, look.grass, 2.4 * (look.green - 0.45) + rng.normal(0, 0.8))
    if rng.random() < 0.12 + 0.35 * (look.suburb == "dense"):
        canvas.paint(box, vary(rng, look.paved, 12), (0.05, 0.06, 0.06))
    enclose(canvas, look, plot)
    reach = build_house(canvas, look, plot)
    room = max(plot.depth - reach, 3.0)
    if rng.random() < 0.6:
        terrace = vary(rng, look.paved, 12)
        canvas.paint(plot.box(0, reach + 1.2, plot.width * rng.uniform(0.3, 0.8), 3), terrace)
    swing = plot.width / 2 - 3.5
    places = rng.uniform((-1, 0.25), (1, 0.8), (2, 2)) * (swing, room) + (0, reach)
    angle = plot.angle + rng.choice((0, np.pi / 2)) + rng.normal(0, 0.06)
    if rng.random() < 0.22:
        decoy(canvas, look, plot.at(*places[1]), angle)
    if with_pool:
        pool(canvas, look, plot.at(*places[0]), angle)
    elif rng.random() < 0.08:
        decoy(canvas, look, plot.at(*places[0]), angle)
    for _ in range(rng.poisson(look.trees * plot.width * plot.depth / 90)):
        spot = plot.at(rng.uniform(-0.5, 0.5) * plot.width, rng.uniform(0.0, 1.0) * plot.depth)
        plant(canvas, look, spot, 3.8)
