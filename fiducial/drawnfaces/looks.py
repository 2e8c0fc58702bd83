"""How a face looks: colours, hair, beard, glasses, make-up; drawn at random, independent of its points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Colour = np.ndarray  # [3] float, RGB 0..255

SKIN = np.array(
    [(250, 214, 190), (236, 188, 160), (222, 170, 136), (196, 138, 102), (150, 98, 68), (96, 60, 42)], float
)
HAIR = np.array(
    [
        (28, 22, 20),
        (56, 38, 28),
        (104, 70, 44),
        (168, 122, 72),
        (216, 182, 128),
        (112, 60, 38),
        (150, 148, 146),
        (222, 220, 216),
    ],
    float,
)
IRIS = np.array([(52, 32, 20), (84, 54, 30), (96, 92, 60), (76, 110, 140), (110, 128, 130)], float)


@dataclass(frozen=True)
class Hair:
    """Describes the hair of the head. Lengths in eye-corner distances."""

    colour: Colour
    line: float  # y of its edge over the forehead; above -1.2 the top is bald
    temple: float  # half-width of the face between the temples' hair
    parting: float  # the forehead's hair slants from one side to the other
    ragged: float  # how much the edge goes up and down
    volume: float
    length: float | None  # y down to which long hair falls beside the face; None = short
    closeness: float  # how far long hair comes forward over the cheeks
    curly: bool = False


@dataclass(frozen=True)
class Looks:
    """Describes everything that is painted."""

    skin: Colour
    lips: Colour
    hair: Hair | None
    brow_colour: Colour
    brow_thickness: float
    brow_strength: float
    iris: Colour
    lid_line: float  # darkness of the lid's edge: lashes, make-up
    eye_shadow: float
    beard: float  # 0 shaven .. 1 full
    moustache: float
    beard_colour: Colour
    wrinkles: float
    mottling: float
    glasses: float | None  # darkness of the lenses; None = no glasses
    frame_colour: Colour
    frame_width: float
    frame_round: float
    cloth: Colour
    shirt: Colour


def draw_looks(random: np.random.Generator) -> Looks:
    """Draws random looks."""
    skin = _between(SKIN, random.beta(1.1, 1.7)) * random.uniform(0.92, 1.08) + random.normal(0, 5, 3)
    hair_colour = HAIR[random.integers(len(HAIR))] * random.uniform(0.7, 1.2) + random.normal(0, 4, 3)
    if skin.mean() < 130 and random.random() < 0.85:
        hair_colour = HAIR[0] * random.uniform(0.6, 1.6)
    man = random.random() < 0.55
    painted = not man and random.random() < 0.6
    lips = skin * [0.86, 0.68, 0.68] if not painted else skin * [0.85, 0.45, 0.48]
    bearded = man and random.random() < 0.35
    return Looks(
        skin=np.clip(skin, 25, 250),
        lips=np.clip(lips * random.uniform(0.85, 1.12) + random.normal(0, 6, 3), 10, 250),
        hair=_draw_hair(random, man, hair_colour),
        brow_colour=np.clip(0.65 * np.minimum(hair_colour, skin * 0.75) + random.normal(0, 4, 3), 5, 200),
        brow_thickness=random.uniform(0.02, 0.06) if man else random.uniform(0.012, 0.04),
        brow_strength=random.uniform(0.35, 0.95),
        iris=IRIS[random.choice(len(IRIS), p=[0.4, 0.25, 0.13, 0.13, 0.09])] * random.uniform(0.7, 1.2),
        lid_line=random.uniform(0.35, 0.75) if man else random.uniform(0.5, 1.0),
        eye_shadow=random.uniform(0.0, 0.35),
        beard=random.uniform(0.3, 1.0) if bearded else (random.uniform(0, 0.3) if man else 0.0),
        moustache=random.uniform(0.4, 1.0) if bearded or (man and random.random() < 0.1) else 0.0,
        beard_colour=np.clip(hair_colour * random.uniform(0.7, 1.1), 8, 235),
        wrinkles=random.uniform(0.0, 1.0) ** 1.5,
        mottling=random.uniform(0.01, 0.05),
        glasses=_draw_glasses(random),
        frame_colour=HAIR[random.integers(len(HAIR))] * random.uniform(0.3, 0.9),
        frame_width=random.uniform(0.012, 0.045),
        frame_round=random.uniform(2.0, 5.0),
        cloth=random.uniform(10, 235, 3) * random.uniform(0.3, 1.0),
        shirt=np.clip(random.uniform(120, 255) + random.normal(0, 20, 3), 20, 255),
    )


def _draw_hair(random: np.random.Generator, man: bool, colour: Colour) -> Hair | None:
    if random.random() < (0.07 if man else 0.01):
        return None
    if random.random() < 0.08:
        return _draw_hat(random)
    fringe = random.random() < (0.12 if man else 0.4)
    line = random.uniform(-0.55, -0.3) if fringe else random.uniform(-0.98, -0.62)
    if man and random.random() < 0.2:
        line = random.uniform(-1.6, -1.0)
    long = random.random() < (0.06 if man else 0.8)
    curly = random.random() < 0.3
    return Hair(
        colour=np.clip(colour, 6, 240),
        line=line,
        temple=random.uniform(0.66, 0.82) if man else random.uniform(0.52, 0.8),
        parting=random.normal(0, 0.1),
        ragged=random.uniform(0.0, 0.09) if fringe or curly else random.uniform(0, 0.04),
        volume=random.uniform(0.02, 0.14) if man else random.uniform(0.06, 0.28),
        length=random.uniform(0.7, 2.4) if long else None,
        closeness=random.uniform(0.0, 1.0),
        curly=curly,
    )


def _draw_hat(random: np.random.Generator) -> Hair:
    """A cap or a scarf: hair of any colour with an even edge."""
    return Hair(
        colour=random.uniform(15, 235, 3),
        line=random.uniform(-0.75, -0.4),
        temple=random.uniform(0.66, 0.8),
        parting=random.normal(0, 0.05),
        ragged=0.0,
        volume=random.uniform(0.1, 0.3),
        length=random.uniform(0.7, 1.6) if random.random() < 0.2 else None,
        closeness=random.uniform(0.3, 1.0),
    )


def _draw_glasses(random: np.random.Generator) -> float | None:
    kind = random.random()
    if kind > 0.2:
        return None
    return float(random.uniform(0.6, 0.97)) if kind < 0.04 else float(random.uniform(0.0, 0.2))


def _between(table: np.ndarray, position: float) -> np.ndarray:
    """The colour at `position` 0..1 along a table of colours."""
    place = position * (len(table) - 1)
    low = min(int(place), len(table) - 2)
    return table[low] + (place - low) * (table[low + 1] - table[low])
