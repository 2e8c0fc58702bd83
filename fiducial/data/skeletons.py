"""Bundled skeletons: COCO-17, iBUG-68, WFLW-98, LaPa-106 and COCO-WholeBody's 133; and what can be told of others from their names.

Left and right are the person's own, so that `right_eye` lies to the left in a picture of somebody who faces us. All
three face sets run along the jaw from the person's right to the left, along each brow and eyelid from one side to the
other, and along the lips from the right corner; that makes every run of points the mirror image of a reversed run,
which is how the flip pairs are written below."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from fiducial.errors import UserError
from fiducial.types import Normalizer, Pairs, Skeleton

# What a category of faces is called, or of nothing in particular: points without names are taken for a face's there alone.
FACES = ("face", "faces", "human_face", "head", "person", "human", "object", "points", "landmarks", "")
INTER_OCULAR = "inter-ocular (outer eye corners)"


def match(names: Sequence[str]) -> Skeleton | None:
    """The bundled skeleton with these names in this order (case, blanks and dashes aside), or, where the names are
    mere numbers (`part_0`, `kpt-1`, ..), the bundled face of that many points. None = not one of ours."""
    plain = tuple(re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names)
    for skeleton in BUNDLED:
        if skeleton.points == plain:
            return skeleton
    return match_count(len(names)) if are_numbers(names) else None


def match_count(count: int) -> Skeleton | None:
    """The bundled face of `count` points, for data that names none. 17 nameless points are not taken for a person:
    too many animals have 17."""
    return next((face for face in (IBUG68, WFLW98, LAPA106) if len(face.points) == count), None)


def may_be_face(category: str) -> bool:
    """Tells whether a category's name leaves room for its being a face."""
    return re.sub(r"[\s-]+", "_", category.strip().lower()) in FACES


def complete(
    name: str,
    points: Sequence[str],
    *,
    where: str,
    edges: Pairs = (),
    flip_indices: Sequence[int] | None = None,
    sigmas: Sequence[float] | None = None,
    groups: dict[str, tuple[int, ...]] | None = None,
) -> tuple[Skeleton, list[str]]:
    """The skeleton that a file describes, with what it leaves out taken from a bundled one of the same names, and notes
    on what was concluded. `where` (file and category) begins the message of the errors.

    `flip_indices` that leave every point of several where it is mean "must not be mirrored", since tools write them by
    default: they give unknown pairs, unless the skeleton is a bundled one. Without any, pairs are read from the
    names."""
    refuse_names(points, where)
    known = match(points)
    if known is not None and are_numbers(points) and not may_be_face(name):
        known = None
    notes = nearly_equal(points)
    flip_pairs = known.flip_pairs if known else None
    if flip_indices is not None:
        pairs = _pairs_of_indices(flip_indices, points, where)
        if pairs or len(points) == 1:
            flip_pairs = pairs
    elif known is None:
        flip_pairs = pairs_by_name(points)
        if flip_pairs:
            shown = ", ".join(f"{points[a]}/{points[b]}" for a, b in flip_pairs)
            notes.append(f"flip pairs were read from the names of the points: {shown}")
    if sigmas is None and known is not None:
        sigmas = known.sigmas
    if known is not None and are_numbers(points):
        notes.append(
            f"its points have numbers for names: taken for the {len(points)} points of {known.name}, by their number; if "
            "they are others, name them"
        )
    if sigmas is None and known is None and len(points) == len(COCO17.points):
        # COCO's evaluator does so for any 17 points.
        sigmas = COCO17.sigmas
        notes.append("its 17 points have other names than COCO's; COCO's sigmas are used for AP all the same")
    try:
        skeleton = Skeleton(
            name=known.name if known else name,
            points=tuple(known.points if known else points),
            edges=edges or (known.edges if known else ()),
            flip_pairs=flip_pairs,
            sigmas=None if sigmas is None else tuple(float(sigma) for sigma in sigmas),
            groups=groups or (known.groups if known else {}),
            normalizer=known.normalizer if known else Normalizer(),
        )
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return skeleton, notes


def refuse_names(points: Sequence[str], where: str) -> None:
    """Raises UserError for names that name no point, or two; `where` begins its message."""
    for number, name in enumerate(points, 1):
        if not isinstance(name, str) or not name.strip():
            raise UserError(where, f"point {number} is named {name!r}; expected text, give each point a name")
    if len(set(points)) < len(points):
        [(name, times)] = Counter(points).most_common(1)
        how = "twice" if times == 2 else f"{times} times"
        raise UserError(
            where, f"point {name!r} is named {how}; expected another name for each point, rename one of them"
        )


def nearly_equal(points: Sequence[str]) -> list[str]:
    """Says of names that differ in small and large letters or in spaces around them alone that they are taken for several."""
    alike: dict[str, list[str]] = {}
    for name in points:
        alike.setdefault(name.strip().casefold(), []).append(name)
    return [
        f"points {' and '.join(map(repr, names))} differ in small and large letters or spaces alone: taken for "
        f"{len(names)} points; if they are one, give it one name"
        for names in alike.values()
        if len(names) > 1
    ]


def _pairs_of_indices(flip_indices: Sequence[int], points: Sequence[str], where: str) -> Pairs:
    """[1, 0, 2] -> ((0, 1),), refusing what can't be a mirror image."""
    count = len(points)
    if len(flip_indices) != count or not all(0 <= i < count for i in flip_indices):
        raise UserError(f"{where}: flip_indices {list(flip_indices)}: expected {count} numbers from 0 to {count - 1}")
    for i, j in enumerate(flip_indices):
        if flip_indices[j] != i:
            raise UserError(
                f"{where}: flip_indices: {points[i]!r} becomes {points[j]!r}, but that {points[flip_indices[j]]!r}; "
                "mirroring twice must give back every point, correct the list"
            )
    return tuple((i, j) for i, j in enumerate(flip_indices) if i < j)


def are_numbers(names: Sequence[str]) -> bool:
    """Whether the names say nothing but a point's number: one stem, then consecutive numbers."""
    parts = [re.fullmatch(r"(\D*)(\d{1,9})", name.strip()) for name in names]
    found = [(part[1], int(part[2])) for part in parts if part is not None]
    if not found or len(found) != len(names):
        return False
    return found == [(found[0][0], found[0][1] + i) for i in range(len(found))] and found[0][1] in (0, 1)


def numbered(count: int) -> tuple[str, ...]:
    """Names for points that have none."""
    return tuple(f"point_{i}" for i in range(count))


def pairs_by_name(names: Sequence[str]) -> Pairs | None:
    """Flip pairs read from left and right in names (`left_eye`, `rightear`, `wrist_l`, `legL4`), if they pair up perfectly.

    None where they don't, where no name has a side, or where names differ in a number only: those are contours, whose
    order in the mirror names can't tell (iBUG's right_eye_0 becomes left_eye_3)."""
    if len({re.sub(r"\d+", "#", name) for name in names}) != len(names):
        return None
    index = {name: i for i, name in enumerate(names)}
    mirrored = [index.get(_other_side(name), -1) for name in names]
    if -1 in mirrored or any(mirrored[j] != i for i, j in enumerate(mirrored)):
        return None
    return tuple((i, j) for i, j in enumerate(mirrored) if i < j) or None


def _other_side(name: str) -> str:
    def swap(found: re.Match[str]) -> str:
        side = found[0]
        other = {"left": "right", "right": "left", "l": "r", "r": "l"}[side.lower()]
        return other.upper() if side.isupper() else other.title() if side[0].isupper() else other

    whole_words = re.sub(r"left|right", swap, name, flags=re.IGNORECASE)
    if whole_words != name:
        return whole_words
    alone, before, behind = (
        r"(?<![A-Za-z0-9])[lrLR](?![A-Za-z0-9])",
        r"^[LR](?=[A-Z][a-z])",
        r"(?<=[a-z])[LR](?=\d|_|$)",
    )
    return re.sub(f"{alone}|{before}|{behind}", swap, name)


def _mirrored(*runs: tuple[int, int] | tuple[int, int, int, int]) -> Pairs:
    """Pairs of runs (first, last), which are their own mirror image reversed, and of (first, last, first, last), the
    first run being the mirror image of the second reversed."""
    pairs = []
    for run in runs:
        start, stop = run[:2]
        other_start, other_stop = run[-2:]
        both = zip(range(start, stop + 1), range(other_stop, other_start - 1, -1), strict=True)
        pairs += [(a, b) for a, b in both if a < b]
    return tuple(sorted(pairs))


def _chain(first: int, last: int, closed: bool = False) -> Pairs:
    """Edges along consecutive points."""
    return tuple((i, i + 1) for i in range(first, last)) + (((last, first),) if closed else ())


def _names(*parts: tuple[str, int]) -> tuple[str, ...]:
    return tuple(f"{stem}_{i}" for stem, count in parts for i in range(count))


def _range(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


# Names, edges and constants as in COCO's person_keypoints category and its evaluator.
COCO17 = Skeleton(
    name="coco17",
    points=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    edges=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    flip_pairs=tuple((i, i + 1) for i in range(1, 17, 2)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
        0.089,
    ),
    groups={
        "head": _range(0, 4),
        "left_arm": (5, 7, 9),
        "right_arm": (6, 8, 10),
        "left_leg": (11, 13, 15),
        "right_leg": (12, 14, 16),
    },
    normalizer=Normalizer("box", "box"),
)  # fmt: skip

# Sagonas et al., 300 Faces in-the-Wild, 2013.
IBUG68 = Skeleton(
    name="ibug68",
    points=_names(
        ("jaw", 17), ("right_eyebrow", 5), ("left_eyebrow", 5), ("nose_bridge", 4), ("nose_lower", 5),
        ("right_eye", 6), ("left_eye", 6), ("outer_lip", 12), ("inner_lip", 8),
    ),
    edges=(
        *_chain(0, 16), *_chain(17, 21), *_chain(22, 26), *_chain(27, 30), *_chain(31, 35), *_chain(36, 41, True),
        *_chain(42, 47, True), *_chain(48, 59, True), *_chain(60, 67, True),
    ),
    flip_pairs=_mirrored(
        (0, 16), (17, 21, 22, 26), (31, 35), (36, 39, 42, 45), (40, 41, 46, 47), (48, 54), (55, 59), (60, 64), (65, 67),
    ),
    groups={
        "jaw": _range(0, 16), "right_eyebrow": _range(17, 21), "left_eyebrow": _range(22, 26), "nose": _range(27, 35),
        "right_eye": _range(36, 41), "left_eye": _range(42, 47), "mouth": _range(48, 67),
    },
    normalizer=Normalizer("points", INTER_OCULAR, (36, 45)),
)  # fmt: skip

# Wu et al., Look at Boundary, 2018.
WFLW98 = Skeleton(
    name="wflw98",
    points=(
        *_names(
            ("jaw", 33), ("right_eyebrow", 9), ("left_eyebrow", 9), ("nose_bridge", 4), ("nose_lower", 5),
            ("right_eye", 8), ("left_eye", 8), ("outer_lip", 12), ("inner_lip", 8),
        ),
        "right_pupil", "left_pupil",
    ),
    edges=(
        *_chain(0, 32), *_chain(33, 41, True), *_chain(42, 50, True), *_chain(51, 54), *_chain(55, 59),
        *_chain(60, 67, True), *_chain(68, 75, True), *_chain(76, 87, True), *_chain(88, 95, True),
    ),
    flip_pairs=_mirrored(
        (0, 32), (33, 37, 42, 46), (38, 41, 47, 50), (55, 59), (60, 64, 68, 72), (65, 67, 73, 75), (76, 82), (83, 87),
        (88, 92), (93, 95), (96, 97),
    ),
    groups={
        "jaw": _range(0, 32), "right_eyebrow": _range(33, 41), "left_eyebrow": _range(42, 50), "nose": _range(51, 59),
        "right_eye": (*_range(60, 67), 96), "left_eye": (*_range(68, 75), 97), "mouth": _range(76, 95),
    },
    normalizer=Normalizer("points", INTER_OCULAR, (60, 72)),
)  # fmt: skip

# Liu et al., A New Dataset and Boundary-Attention Semantic Segmentation for Face Parsing, 2020. Points 104 and 105
# repeat the pupils 74 and 83.
LAPA106 = Skeleton(
    name="lapa106",
    points=(
        *_names(
            ("jaw", 33), ("right_eyebrow", 9), ("left_eyebrow", 9), ("nose_bridge", 4), ("nose_lower", 11),
            ("right_eye", 8),
        ),
        "right_pupil", *_names(("left_eye", 8)), "left_pupil", *_names(("outer_lip", 12), ("inner_lip", 8)),
        "right_pupil_again", "left_pupil_again",
    ),
    edges=(
        *_chain(0, 32), *_chain(33, 41, True), *_chain(42, 50, True), *_chain(51, 54), *_chain(55, 65),
        *_chain(66, 73, True), *_chain(75, 82, True), *_chain(84, 95, True), *_chain(96, 103, True),
    ),
    flip_pairs=_mirrored(
        (0, 32), (33, 37, 42, 46), (38, 41, 47, 50), (55, 65), (66, 70, 75, 79), (71, 73, 80, 82), (74, 74, 83, 83),
        (84, 90), (91, 95), (96, 100), (101, 103), (104, 105),
    ),
    groups={
        "jaw": _range(0, 32), "right_eyebrow": _range(33, 41), "left_eyebrow": _range(42, 50), "nose": _range(51, 65),
        "right_eye": (*_range(66, 74), 104), "left_eye": (*_range(75, 83), 105), "mouth": _range(84, 103),
    },
    normalizer=Normalizer("points", INTER_OCULAR, (66, 79)),
)  # fmt: skip

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_HAND = ("hand_root", *(f"{finger}{joint}" for finger in _FINGERS for joint in range(1, 5)))
_HAND_SIGMAS = (
    *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024),
    *(0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031),
)
_HAND_EDGES = tuple((0 if joint == 1 else end - 1, end) for end in range(1, 21) for joint in [(end - 1) % 4 + 1])
BODY_PARTS = (("foot_kpts", 6), ("face_kpts", 68), ("lefthand_kpts", 21), ("righthand_kpts", 21))  # behind the 17

# Jin et al., Whole-Body Human Pose Estimation in the Wild, ECCV 2020; the face is iBUG's, the sigmas those of its evaluation.
WHOLEBODY133 = Skeleton(
    name="wholebody133",
    points=(
        *COCO17.points,
        *(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
        *(f"face_{i}" for i in range(68)),
        *(f"{side}_{part}" for side in ("left", "right") for part in _HAND),
    ),
    edges=(
        *COCO17.edges,
        *((ankle, toe) for ankle, first in ((15, 17), (16, 20)) for toe in range(first, first + 3)),
        *((a + 23, b + 23) for a, b in IBUG68.edges),
        *((a + first, b + first) for first in (91, 112) for a, b in _HAND_EDGES),
    ),
    flip_pairs=(
        *(COCO17.flip_pairs or ()),
        *((i, i + 3) for i in range(17, 20)),
        *((a + 23, b + 23) for a, b in IBUG68.flip_pairs or ()),
        *((i, i + 21) for i in range(91, 112)),
    ),
    sigmas=(
        *(COCO17.sigmas or ()),
        *(0.068, 0.066, 0.066, 0.092, 0.094, 0.094),
        *(
            0.042,
            0.043,
            0.044,
            0.043,
            0.040,
            0.035,
            0.031,
            0.025,
            0.020,
            0.023,
            0.029,
            0.032,
            0.037,
            0.038,
            0.043,
            0.041,
            0.045,
        ),
        *(0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015),
        *(
            0.009,
            0.007,
            0.007,
            0.007,
            0.012,
            0.009,
            0.008,
            0.016,
            0.010,
            0.017,
            0.011,
            0.009,
            0.011,
            0.009,
            0.007,
            0.013,
        ),
        *(
            0.008,
            0.011,
            0.012,
            0.010,
            0.034,
            0.008,
            0.008,
            0.009,
            0.008,
            0.008,
            0.007,
            0.010,
            0.008,
            0.009,
            0.009,
            0.009,
        ),
        *(0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.01, 0.008),
        *_HAND_SIGMAS,
        *_HAND_SIGMAS,
    ),
    groups={
        **COCO17.groups,
        "feet": _range(17, 22),
        "face": _range(23, 90),
        "left_hand": _range(91, 111),
        "right_hand": _range(112, 132),
    },
    normalizer=Normalizer("box", "box"),
)

BUNDLED = (COCO17, IBUG68, WFLW98, LAPA106, WHOLEBODY133)
