"""A canvas for aerial scenes: colour and height are painted, then lit by one low sun.

Shapes are painted with a colour and a height in metres; shadows and the shading of roofs and
crowns follow from the heights, as they do outdoors. Points are `(n, 2)` arrays of metres from the
canvas's top-left corner, x to the right and y down.
"""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Rng = np.random.Generator

MAX_SLOPE = 1.4
CROWNS, CROWN_PIXELS = 40, 72
# Metres of height whose shadow is looked for.
TALLEST = 12


def noise(rng: Rng, size: int, cell: float) -> Array:
    """Smooth noise of unit variance, `(size, size)`, whose blobs are about `cell` pixels wide."""
    cells = max(2, round(size / cell) + 1)
    image = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    smooth: Array = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    unit: Array = smooth / np.float32(smooth.std() + 1e-6)
    return unit


def rectangle(centre: ArrayLike, length: float, width: float, angle: float) -> Array:
    """Corners of a rectangle `length` by `width`, its length turned by `angle` radians."""
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2)
    return turn(half, angle) + np.asarray(centre, np.float32)


def turn(points: ArrayLike, angle: float) -> Array:
    """The points turned about the origin by `angle` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    turned: Array = (np.asarray(points) @ np.array([[cos, sin], [-sin, cos]])).astype(np.float32)
    return turned


def blob(rng: Rng, radius: float, stretch: float = 1.0, wobble: float = 0.15) -> Array:
    """An irregular closed curve about the origin, of mean radius `radius` metres."""
    angles = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    radii = np.ones_like(angles)
    for wave in (2, 3, 5):
        radii += wobble / wave * 2 * rng.normal() * np.cos(wave * angles + rng.uniform(0, 6.3))
    radii = radius * np.clip(radii, 0.4, 1.7)
    return np.stack([radii * stretch * np.cos(angles), radii * np.sin(angles)], 1).astype(
        np.float32
    )


@functools.cache
def crowns() -> Array:
    """A few dozen shapes of tree crowns seen from above, 0 outside to about 1 at the top."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1.3 : 1.3 : CROWN_PIXELS * 1j, -1.3 : 1.3 : CROWN_PIXELS * 1j]
    shapes = np.zeros((CROWNS, CROWN_PIXELS, CROWN_PIXELS), np.float32)
    for shape in shapes:
        for _ in range(rng.integers(9, 28)):
            away, around = np.sqrt(rng.uniform(0, 0.75)), rng.uniform(0, 2 * np.pi)
            size = rng.uniform(0.22, 0.5)
            apart = (x - away * np.cos(around)) ** 2 + (y - away * np.sin(around)) ** 2
            clump = np.sqrt(np.maximum(size**2 - apart, 0)) / size * (1 - 0.45 * away)
            np.maximum(shape, clump, out=shape)
    return shapes


@dataclass
class Canvas:
    """A square of land as painted so far.

    Attributes:
        metres: its side.
        pixels: its side.
        rng: draws what is random in it.
        colour: 0 to 255, shape (pixels, pixels, 3).
        height: in metres, shape (pixels, pixels).
        pool: True where a pool shows, shape (pixels, pixels).
    """

    metres: float
    pixels: int
    rng: Rng
    colour: Array = field(init=False)
    height: Array = field(init=False)
    pool: Mask = field(init=False)

    def __post_init__(self) -> None:
        size = self.pixels
        self.scale = size / self.metres
        self.colour = np.zeros((size, size, 3), np.float32)
        self.height = np.zeros((size, size), np.float32)
        self.pool = np.zeros((size, size), np.bool_)
        self.fine = self.noise(0.25)
        self.medium = self.noise(1.0) * 0.6 + self.noise(2.3) * 0.6
        self.coarse = self.noise(6.4) * 0.6 + self.noise(15) * 0.7
        self.odds = np.exp(2 * self.coarse + 0.8 * self.medium)
        everywhere = slice(0, size), slice(0, size)
        self.turf = self.grain(everywhere, (0.07, 0.05, 0.04))[..., None]

    def noise(self, metres: float) -> Array:
        """Noise over the canvas; its blobs are about so many metres wide, or just over a pixel."""
        return noise(self.rng, self.pixels, max(metres * self.scale, 1.6))

    def locate(self, points: ArrayLike) -> tuple[tuple[slice, slice], Mask] | None:
        """Window and mask of a polygon on the canvas; None where it lies outside."""
        pixels = (np.asarray(points) * self.scale).tolist()
        xs, ys = [x for x, _ in pixels], [y for _, y in pixels]
        left, right = max(math.floor(min(xs)), 0), min(math.ceil(max(xs)) + 1, self.pixels)
        top, bottom = max(math.floor(min(ys)), 0), min(math.ceil(max(ys)) + 1, self.pixels)
        if left >= right or top >= bottom:
            return None
        image = Image.new("L", (right - left, bottom - top))
        moved = [(x - left, y - top) for x, y in zip(xs, ys, strict=True)]
        ImageDraw.Draw(image).polygon(moved, fill=1)
        return (slice(top, bottom), slice(left, right)), np.asarray(image) > 0

    def grain(self, window: tuple[slice, slice], rough: tuple[float, float, float]) -> Array:
        """Brightness factors of a window from the fine, medium and coarse noise."""
        fine, medium, coarse = rough
        factor = (
            1
            + fine * self.fine[window]
            + medium * self.medium[window]
            + coarse * self.coarse[window]
        )
        return np.asarray(factor, np.float32)

    def paint(
        self,
        points: ArrayLike,
        colour: ArrayLike,
        rough: tuple[float, float, float] = (0.04, 0.04, 0.03),
        height: float | None = None,
    ) -> None:
        """Fill a polygon; with `height` it becomes a flat thing that high, else lies as it was."""
        found = self.locate(points)
        if found is None:
            return
        window, mask = found
        factor = self.grain(window, rough)[mask]
        self.colour[window][mask] = np.asarray(colour, np.float32) * factor[:, None]
        self.pool[window][mask] = False
        if height is not None:
            self.height[window][mask] = height

    def meadow(
        self, points: ArrayLike | None, soil: ArrayLike, grass: ArrayLike, green: float
    ) -> None:
        """Soil and grass in patches, on a polygon or everywhere; `green` is the odds' logarithm."""
        whole = [[0, 0], [self.metres, 0], [self.metres, self.metres], [0, self.metres]]
        found = self.locate(np.asarray(whole if points is None else points))
        if found is None:
            return
        window, mask = found
        odds = self.odds[window][mask]
        cover = (odds / (odds + np.float32(np.exp(-2 * green))))[:, None]
        earth, turf = np.asarray(soil, np.float32), np.asarray(grass, np.float32)
        self.colour[window][mask] = (earth + (turf - earth) * cover) * self.turf[window][mask]
        self.height[window][mask] = 0
        self.pool[window][mask] = False

    def local(
        self, window: tuple[slice, slice], centre: ArrayLike, angle: float
    ) -> tuple[Array, Array]:
        """Metres along and across an object at `centre`, for each pixel of the window."""
        y, x = np.ogrid[window]
        cx, cy = np.asarray(centre) * self.scale
        dx, dy = (x + 0.5 - cx) / self.scale, (y + 0.5 - cy) / self.scale
        cos, sin = np.cos(angle), np.sin(angle)
        return (
            (dx * cos + dy * sin).astype(np.float32),
            (dy * cos - dx * sin).astype(np.float32),
        )

    def roof(
        self,
        centre: ArrayLike,
        size: tuple[float, float],
        angle: float,
        colour: ArrayLike,
        style: str,
        eaves: float,
        pitch: float = 0.45,
        ribs: float = 0.0,
    ) -> None:
        """A building seen from above; `style` is hip, gable, mono or flat, `ribs` the strength of
        its lines of tiles or sheeting. Where it meets a higher one, the higher one stays."""
        found = self.locate(rectangle(centre, *size, angle))
        if found is None:
            return
        window, mask = found
        along, across = self.local(window, centre, angle)
        end, side = size[0] / 2 - np.abs(along), size[1] / 2 - np.abs(across)
        rise = {
            "hip": np.minimum(end, side),
            "gable": side,
            "mono": (across + size[1] / 2) * 0.35,
            "flat": np.where(np.minimum(end, side) < 0.35, 0.9, 0.0),
        }[style]
        top = (eaves + np.maximum(rise, 0) * pitch).astype(np.float32)
        mask = mask & (top > self.height[window])
        lines = np.sin(along * 2 * np.pi / 0.9) + 0.6 * np.sin(across * 2 * np.pi / 1.3)
        factor = self.grain(window, (0.05, 0.05, 0.03)) * (1 + ribs * lines)
        self.colour[window][mask] = np.asarray(colour, np.float32) * factor[mask][:, None]
        self.height[window][mask] = top[mask]
        self.pool[window][mask] = False

    def crown(self, centre: ArrayLike, radius: float, tall: float, colour: ArrayLike) -> None:
        """A tree or a bush: clumps of leaves over an irregular outline, `tall` metres high."""
        x, y = np.asarray(centre) * self.scale
        reach = 1.3 * radius * self.scale
        left, right = max(int(x - reach), 0), min(int(x + reach) + 1, self.pixels)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 1, self.pixels)
        if left >= right or top >= bottom:
            return
        turned = int(self.rng.integers(8 * CROWNS))
        shape = crowns()[turned // 8]
        shape = shape.T if turned & 4 else shape
        zoom = CROWN_PIXELS / (2 * reach)
        rows = np.clip((np.arange(top, bottom) - y + reach) * zoom, 0, CROWN_PIXELS - 1).astype(int)
        columns = np.clip((np.arange(left, right) - x + reach) * zoom, 0, CROWN_PIXELS - 1)
        rows = rows if turned & 1 else CROWN_PIXELS - 1 - rows
        columns = columns.astype(int) if turned & 2 else CROWN_PIXELS - 1 - columns.astype(int)
        window = slice(top, bottom), slice(left, right)
        lift = shape[rows[:, None], columns]
        lift = lift * (1 + 0.10 * self.fine[window] + 0.12 * self.medium[window])
        height = tall * (0.35 + 0.65 * lift)
        mask = (lift > 0.25) & (height > self.height[window])
        factor = (0.55 + 0.6 * lift) * (1 + 0.12 * self.fine[window])
        self.colour[window][mask] = np.asarray(colour, np.float32) * factor[mask][:, None]
        self.height[window][mask] = height[mask]
        self.pool[window][mask] = False

    def light(self, azimuth: float, elevation: float, ambient: ArrayLike) -> Array:
        """The lit scene, 0 to 255: sun from `azimuth` (radians clockwise from the top of the
        canvas) at `elevation` radians, and `ambient`, the share of light in shadow by channel."""
        toward = np.array([np.sin(azimuth), -np.cos(azimuth)], np.float32)
        drop = np.tan(elevation) / self.scale
        skyline = self.height.copy()
        reach = TALLEST / np.tan(elevation) * self.scale
        for step in 2 ** np.arange(math.ceil(np.log2(reach))):
            dx, dy = np.round(toward * step).astype(int)
            here = skyline[_overlap(-dy), _overlap(-dx)]
            there = skyline[_overlap(dy), _overlap(dx)]
            np.maximum(here, there - np.float32(step * drop), out=here)
        shadow = np.clip((skyline - self.height) / 0.35, 0, 1)
        slope_y, slope_x = np.gradient(self.height * np.float32(self.scale))
        lean = np.clip(-(slope_x * toward[0] + slope_y * toward[1]), -MAX_SLOPE, MAX_SLOPE)
        steep = np.sqrt(1 + np.minimum(slope_x**2 + slope_y**2, MAX_SLOPE**2))
        sun = np.clip((1 + lean / np.float32(np.tan(elevation))) / steep, 0.05, 1.6) * (1 - shadow)
        share = np.asarray(ambient, np.float32)
        lit: Array = self.colour * (share + (1 - share) * sun[..., None])
        return lit


def _overlap(shift: int) -> slice:
    """The part of an axis that is still on it after a shift by so many pixels back."""
    return slice(max(shift, 0), min(shift, 0) or None)
