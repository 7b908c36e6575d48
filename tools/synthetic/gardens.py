"""Things in gardens: swimming pools, and the things that are mistaken for one."""

from collections.abc import Callable

import numpy as np

from tools.synthetic.canvas import Array, Canvas, Rng, blob, rectangle, turn
from tools.synthetic.styles import BLUES, WATER, Style, pick, vary


def pool_outline(rng: Rng) -> Array:
    """The outline of a pool about the origin, its long side along x."""
    length = float(np.clip(rng.lognormal(np.log(6.6), 0.27), 3.6, 13))
    width = length * rng.uniform(0.42, 0.64)
    shape = rng.choice(
        ("rectangle", "rounded", "kidney", "round", "ell"), p=(0.4, 0.2, 0.2, 0.1, 0.1)
    )
    angles = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    cos, sin = np.cos(angles), np.sin(angles)
    if shape == "round":
        return (np.stack([cos, sin], 1) * rng.uniform(1.7, 3.2)).astype(np.float32)
    if shape == "rounded":
        power = rng.uniform(0.35, 0.8)
        corners = [np.sign(cos) * np.abs(cos) ** power, np.sign(sin) * np.abs(sin) ** power]
        return (np.stack(corners, 1) * (length / 2, width / 2)).astype(np.float32)
    if shape == "kidney":
        waist = 1 - 0.45 * np.exp(-((angles - np.pi / 2) ** 2) / 0.25)
        return (np.stack([cos * length / 2, sin * width / 2 * waist], 1)).astype(np.float32)
    a, b = length / 2, width / 2
    if shape == "ell":
        bay = rng.uniform(0.3, 0.6) * length
        return np.array(
            [[-a, -b], [a, -b], [a, b], [a - bay, b], [a - bay, b * 2.1], [-a, b * 2.1]], np.float32
        ) - np.array([0, b / 2], np.float32)
    return rectangle((0, 0), length, width, 0)


def pool(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A swimming pool: paving, rim, water that deepens along its length, steps; some are old,
    green, covered or half empty."""
    rng = canvas.rng
    outline = pool_outline(rng)

    def place(points: Array) -> Array:
        return turn(points, angle) + centre

    low, high = outline.min(0), outline.max(0)
    around = rng.uniform(0.5, 2.8, 4)
    deck = np.array([low - around[:2], high + around[2:]])
    paving = vary(rng, look.paved, 14)
    if rng.random() < 0.7:
        corners = np.stack([deck[[0, 1, 1, 0], 0], deck[[0, 0, 1, 1], 1]], 1)
        canvas.paint(place(corners), paving, (0.05, 0.05, 0.04), height=0)
    rim = 1 + 2 * rng.uniform(0.2, 0.5) / (high - low)
    canvas.paint(place(outline * rim), vary(rng, paving * 1.08, 12), height=0.05)
    state = rng.choice(("clean", "algae", "covered", "empty"), p=(0.91, 0.04, 0.03, 0.02))
    tint = pick(rng, WATER[: 6 if state == "clean" else 8], 9)
    if state == "algae":
        tint = vary(rng, (70, 96, 66), 8)
    found = canvas.locate(place(outline))
    if found is None:
        return
    window, mask = found
    along, _ = canvas.local(window, centre, angle)
    deep = np.clip(0.5 + along / (high[0] - low[0]) * rng.choice((-1, 1)), 0, 1)[..., None]
    water = tint * (1.12 - 0.26 * deep) * canvas.grain(window, (0.025, 0.035, 0.02))[..., None]
    if state == "covered":
        slats = np.sin(along * 2 * np.pi / 0.8)[..., None]
        water = pick(rng, (*BLUES[:2], (150, 160, 165)), 10) * (1 + 0.04 * slats)
    if state == "empty":
        floor = vary(rng, (176, 186, 184), 8)
        water = np.where(deep > rng.uniform(0.55, 0.8), tint * 0.75, floor)
    canvas.colour[window][mask] = np.broadcast_to(water, (*mask.shape, 3))[mask]
    canvas.height[window][mask] = 0.05 if state == "covered" else -rng.uniform(0.15, 0.5)
    canvas.pool[window][mask] = True
    if state == "clean" and rng.random() < 0.5:
        side = rng.choice((low[0] + 0.7, high[0] - 0.7))
        middle = (outline[:, 1].min() + outline[:, 1].max()) / 2
        steps = canvas.locate(place(rectangle((side, middle), 1.1, 1.6, 0)))
        if steps is not None:
            window, mask = steps
            mask = mask & canvas.pool[window]
            canvas.colour[window][mask] = canvas.colour[window][mask] * 0.6 + 92
    for _ in range(rng.poisson(1.2)):
        spot = rng.uniform(low - 1.5, high + 1.5).astype(np.float32)
        if ((spot < low - 0.3) | (spot > high + 0.3)).any():
            canvas.paint(
                place(rectangle(spot, 1.8, 0.7, 0)), vary(rng, (225, 225, 220)), height=0.4
            )


def tarpaulin(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A creased blue sheet over a heap, a boat or nothing."""
    rng = canvas.rng
    length, width = rng.uniform(2.5, 7), rng.uniform(2, 4)
    corners = rectangle((0, 0), length, width, 0) + rng.normal(0, 0.25, (4, 2))
    canvas.paint(
        turn(corners, angle) + centre,
        pick(rng, BLUES),
        (0.05, 0.12, 0.04),
        height=float(rng.uniform(0.05, 1.2)),
    )


def trampoline(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A dark round mat in a blue or green ring."""
    rng = canvas.rng
    radius = rng.uniform(1.3, 2.3)
    ring = blob(rng, radius, wobble=0)
    canvas.paint(ring + centre, pick(rng, (*BLUES[:3], (70, 120, 80))), height=0.9)
    canvas.paint(ring * 0.82 + centre, vary(rng, (52, 54, 58), 8), height=0.85)


def tank(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """One or two round water tanks."""
    rng = canvas.rng
    colour = pick(rng, ((72, 104, 82), (60, 62, 62), (196, 186, 160), (92, 132, 150)))
    for i in range(rng.integers(1, 3)):
        ring = blob(rng, rng.uniform(0.8, 1.5), wobble=0) + centre + turn((i * 2.8, 0), angle)
        canvas.paint(ring, colour, height=2.0)
        canvas.paint(ring * 0.3 + ring.mean(0) * 0.7, colour * 1.15, height=2.2)


def panels(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A field of solar panels, dark blue with pale frames."""
    rng = canvas.rng
    rows, columns = rng.integers(1, 4), rng.integers(2, 7)
    colour = vary(rng, (44, 62, 98), 8)
    base = canvas.height[window_of(canvas, centre)] + 0.25
    for row in range(rows):
        for column in range(columns):
            spot = turn((column * 1.1 - columns * 0.55, row * 1.75 - rows * 0.9), angle) + centre
            canvas.paint(rectangle(spot, 1.0, 1.65, angle), colour, (0.02, 0.02, 0.02), height=base)


def window_of(canvas: Canvas, point: Array) -> tuple[int, int]:
    """Row and column of the canvas pixel nearest to a point."""
    x, y = np.clip(point * canvas.scale, 0, canvas.height.shape[0] - 1).astype(int)
    return int(y), int(x)


def shed(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A garden shed, carport or shade sail with a blue, green or pale roof."""
    rng = canvas.rng
    colour = pick(rng, (*BLUES, (84, 130, 104), (110, 150, 150), (200, 200, 196)))
    size = (rng.uniform(2.2, 6.5), rng.uniform(2, 3.8))
    canvas.roof(centre, size, angle, colour, "mono", 2.1, 0.12, 0.04)


def pond(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A garden pond or a puddle, murky, with an edge of mud or reeds."""
    rng = canvas.rng
    edge = turn(blob(rng, rng.uniform(1.3, 3.4), rng.uniform(1, 1.7), 0.22), angle)
    canvas.paint(edge * 1.25 + centre, vary(rng, look.soil * 0.8), (0.1, 0.12, 0.05))
    canvas.paint(edge + centre, pick(rng, ((84, 92, 78), (98, 94, 82), (70, 92, 96))), height=-0.1)


def court(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A tennis or practice court, blue, green or red, with white lines."""
    rng = canvas.rng
    scale = rng.uniform(0.45, 0.9)
    length, width = 23.8 * scale, 11 * scale
    outer = pick(rng, ((92, 132, 104), (150, 92, 76), (96, 130, 160), (120, 140, 110)))
    inner = pick(rng, ((76, 130, 176), (100, 140, 112), (84, 150, 170), (166, 104, 84)))
    canvas.paint(rectangle(centre, length + 5 * scale, width + 4 * scale, angle), outer, height=0)
    canvas.paint(rectangle(centre, length + 0.3, width + 0.3, angle), (225, 225, 220))
    canvas.paint(rectangle(centre, length, width, angle), inner)
    canvas.paint(rectangle(centre, 0.15, width + 1, angle), (215, 215, 210), height=0.9)


def patio(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """A paved terrace with an inlay that a pool could be: a lawn, pale slabs, a sandpit."""
    rng = canvas.rng
    length, width = rng.uniform(4, 9), rng.uniform(2.6, 4.5)
    canvas.paint(rectangle(centre, length + 2.6, width + 2.4, angle), vary(rng, look.paved, 14))
    other = [(198, 206, 206), (212, 196, 160), (150, 170, 168), (96, 104, 96)]
    inlay = pick(rng, np.array([look.grass, *other]))
    canvas.paint(rectangle(centre, length, width, angle), inlay, (0.04, 0.06, 0.04), height=-0.05)


DECOYS: tuple[tuple[Callable[[Canvas, Style, Array, float], None], float], ...] = (
    (tarpaulin, 0.2),
    (trampoline, 0.14),
    (tank, 0.1),
    (panels, 0.1),
    (shed, 0.18),
    (pond, 0.08),
    (court, 0.06),
    (patio, 0.14),
)


def decoy(canvas: Canvas, look: Style, centre: Array, angle: float) -> None:
    """One of the things mistaken for a pool."""
    shares = [share for _, share in DECOYS]
    chosen = DECOYS[canvas.rng.choice(len(DECOYS), p=shares)][0]
    chosen(canvas, look, centre, angle)
