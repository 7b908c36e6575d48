"""What a tile shows: streets, plots, houses, gardens and trees, as one sheet's `Look` has them.

`draw` makes one tile's scene. Lengths are metres, angles radians, colours sRGB from 0 to 255.
"""

from dataclasses import dataclass

import numpy as np

from capetown.sample.canvas import Array, Canvas, Mask, Rng, rectangle, turn
from capetown.sample.gardens import decoy, panels, pool
from capetown.sample.looks import CARS, Look, pick, vary


@dataclass(frozen=True)
class Lot:
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


def lay_ground(canvas: Canvas, look: Look) -> None:
    """Grass and bare soil in patches."""
    cover = 1 / (1 + np.exp(-2.5 * (canvas.coarse + 2.4 * (look.green - 0.45))))
    mix = look.soil * (1 - cover[..., None]) + look.grass * cover[..., None]
    everywhere = (slice(0, None), slice(0, None))
    canvas.colour[:] = mix * canvas.grain(everywhere, (0.06, 0.05, 0.02))[..., None]


def lay_road(
    canvas: Canvas, look: Look, start: Array, end: Array, width: float, bend: float
) -> None:
    """An asphalt road with pavements, a worn middle line and cars along the kerbs."""
    rng = canvas.rng
    steps = np.linspace(0, 1, 24)[:, None]
    along = (end - start) / np.linalg.norm(end - start)
    aside = np.array([-along[1], along[0]])
    line = start + (end - start) * steps + aside * bend * 4 * steps * (1 - steps)
    asphalt = vary(rng, (122, 120, 118), 14)

    def band(inner: float, outer: float) -> Array:
        edges = [line + aside * inner, (line + aside * outer)[::-1]]
        return np.concatenate(edges).astype(np.float32)

    canvas.paint(band(-width / 2 - 2.4, width / 2 + 2.4), look.grass, (0.06, 0.08, 0.1))
    canvas.paint(band(-width / 2 - 1.2, width / 2 + 1.2), vary(rng, look.paved), height=0)
    canvas.paint(band(-width / 2, width / 2), asphalt, (0.03, 0.03, 0.05), height=0)
    if rng.random() < 0.6:
        for i in range(0, 23, int(rng.integers(1, 3))):
            pair = line[i : i + 2]
            dash = np.concatenate([pair - aside * 0.1, pair[::-1] + aside * 0.1])
            canvas.paint(dash, asphalt + 55)
    for _ in range(rng.poisson(3)):
        i = int(rng.integers(1, 24))
        heading = line[i] - line[i - 1]
        lane = rng.choice((-1, 1)) * (width / 2 - rng.uniform(0.9, 2.2))
        park(canvas, line[i] + aside * lane, float(np.arctan2(heading[1], heading[0])))


def park(canvas: Canvas, centre: Array, angle: float) -> None:
    """A car: body, dark windows, roof."""
    colour = pick(canvas.rng, CARS)
    middle = centre - turn((0.3, 0), angle)
    canvas.paint(rectangle(centre, 4.3, 1.8, angle), colour, height=0.9)
    canvas.paint(rectangle(middle, 2.5, 1.6, angle), colour * 0.35, height=1.2)
    canvas.paint(rectangle(middle, 1.5, 1.5, angle), colour, height=1.4)


def build_house(canvas: Canvas, look: Look, lot: Lot) -> float:
    """The house, its drive and its car; returns how far inwards the house reaches."""
    rng = canvas.rng
    colour = pick(rng, look.roofs, 8)
    setback = rng.uniform(0.08, 0.24) * lot.depth
    width = lot.width * rng.uniform(0.5, 0.8)
    depth = min(rng.uniform(0.26, 0.4) * lot.depth, 14.0)
    shift = rng.choice((-1, 1)) * (lot.width - width) / 2 * rng.uniform(0.3, 0.9)
    style = str(rng.choice(("hip", "gable", "flat"), p=(0.45, 0.35, 0.2)))
    eaves = 2.8 if rng.random() < 0.75 else 5.6
    pitch = rng.uniform(0.3, 0.6)
    ribs = rng.uniform(0, 0.05)
    side = -np.sign(shift) * (lot.width / 2 - 2.2)
    drive = vary(rng, look.paved * rng.uniform(0.8, 1.05), 10)
    canvas.paint(lot.box(side, setback / 2 + 1, 3.2, setback + 3), drive, height=0)
    middle = setback + depth / 2
    canvas.roof(lot.at(shift, middle), (width, depth), lot.angle, colour, style, eaves, pitch, ribs)
    if rng.random() < 0.65:
        wing = (rng.uniform(0.5, 1.0) * depth + 5, width * rng.uniform(0.3, 0.45))
        aside = shift + rng.choice((-1, 1)) * (width - wing[1]) / 2
        inward = middle + rng.choice((-0.6, 1)) * (wing[0] - depth) / 2
        spot, turned = lot.at(aside, inward), lot.angle + np.pi / 2
        canvas.roof(spot, wing, turned, colour, style, eaves, pitch, ribs)
    if rng.random() < 0.4:
        canvas.roof(
            lot.at(side, setback + 5), (3.6, 6), lot.angle, pick(rng, look.roofs), "flat", 2.4
        )
    if rng.random() < 0.5:
        chimney = lot.at(shift + rng.uniform(-0.3, 0.3) * width, middle)
        canvas.paint(rectangle(chimney, 0.9, 0.9, lot.angle), (150, 120, 104), height=eaves + 3)
    if rng.random() < 0.22:
        panels(canvas, look, lot.at(shift, middle - depth * 0.22), lot.angle)
    if rng.random() < 0.6:
        park(canvas, lot.at(side, rng.uniform(2.5, 4 + setback / 2)), lot.angle + np.pi / 2)
    return float(setback + depth + 1)


def fence(canvas: Canvas, look: Look, lot: Lot) -> None:
    """Walls or hedges on the plot's sides and back."""
    rng = canvas.rng
    wall = vary(rng, look.paved, 16)
    sides = (
        lot.box(-lot.width / 2, lot.depth / 2, 0.4, lot.depth),
        lot.box(lot.width / 2, lot.depth / 2, 0.4, lot.depth),
        lot.box(0, lot.depth, lot.width, 0.4),
    )
    for side in sides:
        if rng.random() < 0.25 * look.trees:
            start, end = (side[0] + side[1]) / 2, (side[2] + side[3]) / 2
            if np.ptp(side[:, 0]) + np.ptp(side[:, 1]) > 4:
                longer = np.linalg.norm(side[1] - side[0]) > np.linalg.norm(side[2] - side[1])
                start, end = (side[0], side[1]) if longer else (side[1], side[2])
            for step in np.arange(0, 1, 1.6 / max(lot.depth, 4)):
                canvas.crown(start + (end - start) * step, 1.2, 2.2, vary(rng, look.leaf, 8))
        else:
            canvas.paint(side, wall, height=1.6)


def plant(canvas: Canvas, look: Look, centre: Array, largest: float) -> None:
    """One tree or bush, up to `largest` metres in radius."""
    rng = canvas.rng
    radius = float(rng.uniform(0.25, 1) ** 1.3 * largest)
    colour = vary(rng, look.leaf, 10) + rng.uniform(-1, 1) * np.array([10, 4, -4])
    canvas.crown(centre, radius, radius * rng.uniform(1.1, 2.2), np.clip(colour, 10, 240))


def furnish(canvas: Canvas, look: Look, lot: Lot, with_pool: bool) -> None:
    """One plot: ground, fence, house, and in the garden a pool, a decoy or neither, and trees."""
    rng = canvas.rng
    lawn = look.grass * rng.uniform(0.85, 1.12)
    if rng.random() < 0.75 - 0.5 * look.green:
        lawn = look.soil * rng.uniform(0.85, 1.1)
    box = lot.box(0, lot.depth / 2, lot.width, lot.depth)
    canvas.paint(box, vary(rng, lawn, 6), (0.06, 0.07, 0.07), height=0)
    fence(canvas, look, lot)
    reach = build_house(canvas, look, lot)
    room = max(lot.depth - reach, 3.0)
    if rng.random() < 0.6:
        terrace = vary(rng, look.paved, 12)
        canvas.paint(lot.box(0, reach + 1.2, lot.width * rng.uniform(0.3, 0.8), 3), terrace)
    swing = lot.width / 2 - 3.5
    spots = [
        lot.at(swing * x, reach + room * y) for x, y in rng.uniform((-1, 0.3), (1, 0.8), (2, 2))
    ]
    angle = lot.angle + rng.choice((0, np.pi / 2)) + rng.normal(0, 0.06) + (rng.random() < 0.1)
    if rng.random() < 0.4:
        decoy(canvas, look, spots[1], angle)
    if with_pool:
        pool(canvas, look, spots[0], angle)
    for _ in range(rng.poisson(look.trees * lot.width * lot.depth / 130)):
        spot = lot.at(rng.uniform(-0.5, 0.5) * lot.width, rng.uniform(0.0, 1.0) * lot.depth)
        plant(canvas, look, spot, 3.6)


def plots(look: Look, rng: Rng) -> tuple[list[Lot], list[tuple[Array, Array]]]:
    """Plots along parallel streets that cover the tile, and the streets' ends."""
    angle = look.angle + rng.choice((0, np.pi / 2)) + rng.normal(0, 0.05)
    width, depth = look.lot
    street = 11.0
    period = 2 * depth + street
    middle = np.array([look.metres / 2] * 2)
    offset = rng.uniform(0, period)
    reach = look.metres * 0.75
    lots: list[Lot] = []
    streets: list[tuple[Array, Array]] = []
    for row in range(-2, 3):
        y = row * period + offset - period / 2
        if abs(y) > reach + depth:
            continue
        ends = turn([[-reach * 1.2, y], [reach * 1.2, y]], angle) + middle
        streets.append((ends[0].astype(np.float32), ends[1].astype(np.float32)))
        for side in (1, -1):
            x = -reach - rng.uniform(0, width)
            while x < reach:
                wide = width * rng.uniform(0.85, 1.2)
                front = turn((x + wide / 2, y + side * street / 2), angle) + middle
                facing = angle if side == 1 else angle + np.pi
                lots.append(Lot(front.astype(np.float32), facing, wide, depth))
                x += wide
    seen = [
        lot
        for lot in lots
        if np.abs(lot.at(0, depth / 2) - middle).max() < look.metres / 2 + (width + depth) / 3
    ]
    return seen, streets


def draw(look: Look, with_pool: bool, rng: Rng) -> tuple[Array, Mask]:
    """One tile's scene: its lit picture `(512, 512, 3)`, 0 to 255, and the pixels of its pools."""
    canvas = Canvas(look.metres, rng)
    lay_ground(canvas, look)
    lots, streets = plots(look, rng)
    if look.suburb == "open":
        lots = [lots[i] for i in rng.permutation(len(lots))[: rng.integers(1, 4)]]
        streets = streets[: int(rng.integers(0, 2))]
    for start, end in streets:
        lay_road(canvas, look, start, end, rng.uniform(5, 8), 0)
    inside = [i for i, lot in enumerate(lots) if in_view(look, lot)] or list(range(len(lots)))
    first = int(rng.choice(inside))
    for i, lot in enumerate(lots):
        furnish(canvas, look, lot, with_pool and (i == first or rng.random() < 0.2))
    for _ in range(rng.poisson(look.trees * (40 if look.suburb == "open" else 6))):
        plant(canvas, look, rng.uniform(0, look.metres, 2).astype(np.float32), 4.2)
    return canvas.light(look.azimuth, look.elevation, look.ambient), canvas.pool


def in_view(look: Look, lot: Lot) -> bool:
    """Whether the plot's garden lies on the tile."""
    x, y = lot.at(0, lot.depth * 0.75)
    return bool(0 < x < look.metres and 0 < y < look.metres)
