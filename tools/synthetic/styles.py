"""Style of a scene: the flight and the season of their sheet, and the suburb.

Lengths are metres, angles radians, colours sRGB from 0 to 255.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from tools.synthetic.canvas import Array, Rng

Suburb = Literal["estate", "suburb", "dense", "works", "open"]

ROOFS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "tile": ((168, 112, 90), (152, 102, 86), (180, 134, 110), (130, 96, 84), (122, 110, 102)),
    "grey": ((128, 128, 128), (104, 106, 110), (150, 148, 144), (84, 84, 88), (172, 170, 166)),
    "white": ((222, 220, 214), (204, 202, 196), (186, 186, 184), (232, 230, 226)),
    "bold": ((88, 114, 142), (86, 116, 110), (96, 122, 104), (136, 76, 66), (78, 96, 124)),
}
WATER = (
    (92, 192, 208),
    (124, 210, 224),
    (72, 172, 206),
    (62, 148, 200),
    (92, 186, 216),
    (84, 164, 172),
    (60, 104, 106),
    (110, 150, 150),
)
BLUES = ((58, 96, 168), (78, 120, 180), (44, 76, 140), (96, 132, 170), (64, 84, 120))
CARS = (
    (225, 225, 225),
    (190, 192, 195),
    (60, 62, 66),
    (120, 122, 126),
    (150, 40, 36),
    (50, 84, 150),
)
SUBURBS: tuple[Suburb, ...] = ("estate", "suburb", "dense", "works", "open")
# Share of the plots that have a pool, typically.
POOLS: dict[Suburb, float] = {
    "estate": 0.5, "suburb": 0.22, "dense": 0.015, "works": 0.04, "open": 0.3
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """Light, camera, colours and plots that the tiles of one scene share."""

    suburb: Suburb
    azimuth: float
    elevation: float
    ambient: Array
    tint: Array
    colourful: float
    haze: float
    blur: float
    grain: float
    sharpen: float
    green: float
    grass: Array
    soil: Array
    leaf: Array
    roofs: Array
    plot: tuple[float, float]
    pools: float
    trees: float
    paved: Array
    angle: float


def vary(rng: Rng, colour: ArrayLike, amount: float = 10) -> Array:
    """The colour, lighter or darker and a little off in each channel."""
    shift = rng.normal(0, amount) + rng.normal(0, amount / 3, 3)
    return np.clip(np.asarray(colour) + shift, 8, 245).astype(np.float32)


def choose_style(flight: Rng, rng: Rng) -> Style:
    """Draw what a scene looks like; the sun stands in the north, so shadows fall down.

    Args:
        flight: draws light and camera, which the scenes of a sheet share.
        rng: draws the suburb.
    """
    suburb = SUBURBS[rng.choice(5, p=(0.3, 0.42, 0.1, 0.08, 0.1))]
    width, depth = {
        "estate": (30, 42),
        "suburb": (20, 31),
        "dense": (11, 20),
        "works": (24, 32),
        "open": (34, 46),
    }[suburb]
    scale = rng.uniform(0.88, 1.15)
    green = float(np.clip(rng.normal(0.55, 0.25), 0.05, 1))
    kinds = rng.dirichlet((1.4, 1.0, 0.5, 0.12))
    palette = np.concatenate(
        [
            np.asarray(ROOFS[kind])[rng.integers(0, len(ROOFS[kind]), round(share * 12) + 1)]
            for kind, share in zip(ROOFS, kinds, strict=True)
        ]
    )
    shade = flight.uniform(0.34, 0.52)
    return Style(
        suburb=suburb,
        azimuth=float(flight.uniform(-1.1, 1.1)),
        elevation=float(flight.uniform(0.6, 1.1)),
        ambient=np.array([shade - 0.03, shade, shade + 0.05], np.float32),
        tint=flight.normal(1, 0.02, 3).astype(np.float32),
        colourful=float(flight.uniform(0.75, 1.05)),
        haze=float(flight.uniform(0, 22)),
        blur=float(flight.uniform(0.35, 0.95)),
        grain=float(flight.uniform(1.0, 4.0)),
        sharpen=float(flight.uniform(0, 0.7)),
        green=green,
        grass=vary(rng, np.array([142, 132, 92]) * (1 - green) + np.array([104, 118, 70]) * green),
        soil=vary(rng, ((176, 156, 126), (190, 176, 150), (150, 122, 94))[rng.integers(3)]),
        leaf=vary(
            rng, ((74, 92, 56), (62, 86, 60), (90, 100, 66), (54, 76, 48))[rng.integers(4)], 6
        ),
        roofs=palette.astype(np.float32),
        plot=(width * scale, depth * scale),
        pools=POOLS[suburb] * float(rng.lognormal(0, 0.5)),
        trees=float(rng.uniform(0.4, 1.5)) * (1.5 if suburb == "estate" else 1.0),
        paved=vary(rng, ((188, 178, 164), (170, 150, 134), (160, 158, 154))[rng.integers(3)]),
        angle=float(rng.uniform(0, np.pi)),
    )


def pick(rng: Rng, colours: ArrayLike, amount: float = 10) -> Array:
    """One of the colours, varied."""
    table = np.asarray(colours)
    return vary(rng, table[rng.integers(len(table))], amount)
