"""The page of `fiducial data check`: what was found, with pictures of the labels as they are and as they would be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from fiducial import geometry
from fiducial.checks import mend
from fiducial.checks.finding import Finding, Labelled
from fiducial.checks.run import Checked
from fiducial.errors import UserError, counted
from fiducial.geometry import Size
from fiducial.report import pictures
from fiducial.report.galleries import instance_tile
from fiducial.report.page import Fact, Gallery, Page, Picture, Section, Table, data_section, write_page
from fiducial.types import Instances

MOST_PICTURES = 24  # of a kind
SIDE = 256  # px
LEGEND = {"as labelled": pictures.TRUTH, "as proposed": pictures.PREDICTION, "difference": pictures.ERROR}
EXCHANGED = ("left_right", "point_order")
MOST_NAMED = 24  # points whose names are listed by their colours
MEANING = {
    "left_right": "Left and right look exchanged",
    "moved_point": "Points that lie where the others say they can't",
    "point_order": "Points in another order than in most instances",
    "flip_pairs": "Flip pairs that the shapes refute",
    "duplicate": "Images that are there twice",
    "leak": "One series in several splits",
    "unit_coordinates": "Coordinates divided by the image's size",
    "corner_box": "Boxes written as two corners",
    "box_misses_points": "Boxes that do not hold their points",
    "missing_as_label": "Missing points written as labels",
    "outside": "Points outside of their image",
    "category": "Annotations of unknown categories",
    "size": "Images of another size than declared",
    "unlabelled_image": "Images that no label names",
    "unlabelled_point": "Points that no instance of a split labels",
}


def write(path: Path, checked: Checked, data: str) -> Path:
    """Writes the page, whole or not at all."""
    splits = dict(checked.splits.instances)
    faults = checked.faults
    counts = Counter(finding.kind for finding in checked.findings)
    total = sum(map(len, splits.values()))
    answer = (
        f"{counted(len(faults), 'likely fault')} in {counted(total, 'instance')}"
        if faults
        else f"No fault found in {total} instances"
    )
    rows = [(kind, MEANING[kind], counts[kind], sum(one.kind == kind for one in faults)) for kind in counts]
    sections = [Section("What was found", [Table(("kind", "what", "findings", "likelier a fault than not"), rows)])]
    for kind in counts:
        own = [finding for finding in checked.findings if finding.kind == kind]
        sections.append(Section(MEANING[kind], [_gallery(splits, own, kind), _table(own)]))
    values = {"data": data, **{split: f"{len(part)} instances" for split, part in splits.items()}}
    return write_page(
        path,
        Page(
            title=f"Check of {PurePath(data).name}",
            answer=[f"{answer}. Nothing of the set was changed."],
            facts=[Fact(kind, count, MEANING[kind]) for kind, count in counts.most_common(6)],
            notes=[str(problem) for problem in checked.problems if problem.is_note],
            sections=[*sections, data_section(values, [str(one) for one in checked.problems if not one.is_note])],
        ),
    )


def _table(findings: Sequence[Finding]) -> Table:
    rows = [
        (
            " ".join(
                filter(
                    None, [PurePath(one.image).name, "" if one.annotation_id is None else f"no. {one.annotation_id}"]
                )
            )
            or one.split,
            one.split,
            round(one.confidence, 2),
            ", ".join(one.points[:4]) + (f" and {len(one.points) - 4} more" if len(one.points) > 4 else ""),
            one.what,
        )
        for one in findings
    ]
    return Table(("where", "split", "confidence", "points", "what"), rows, last_below=True)


def _gallery(splits: dict[str, Instances], findings: Sequence[Finding], kind: str) -> Gallery:
    shown: list[Picture] = []
    for finding in findings:
        if len(shown) == MOST_PICTURES:
            break
        part = splits.get(finding.split)
        if part is None or not finding.image:
            continue
        picture = _labels(part, finding) if finding.annotation_id is not None else _image(part, finding)
        if picture is not None:
            shown.append(picture)
    legend: dict[str, pictures.Colour] = {}
    if kind in EXCHANGED and shown:
        skeleton = next(iter(splits.values())).skeleton
        colours = [(int(r), int(g), int(b)) for r, g, b in pictures.point_colours(skeleton)]
        legend = dict(list(zip(skeleton.points, colours, strict=True))[:MOST_NAMED])
    elif any(finding.annotation_id is not None for finding in findings) and shown:
        legend = LEGEND
    note = "The surest first." + (f" {MOST_PICTURES} of {len(findings)}." if len(findings) > MOST_PICTURES else "")
    return Gallery(kind, shown, note, legend)


def _labels(part: Instances, finding: Finding) -> Picture | None:
    """The labels as they are, and where the proposal would have them."""
    rows = np.flatnonzero([number == finding.annotation_id for number in part.annotation_id.tolist()])
    if len(rows) == 0:
        return None
    one = part.select(rows[:1])
    changed = mend.mended(Labelled({finding.split: one}), [finding])[0].splits[finding.split]
    predicted = changed.xy[0] if len(changed) else one.xy[0]
    try:
        if finding.kind in EXCHANGED:
            tile = _beside(one, predicted)
        else:
            tile = instance_tile(one, 0, predicted, numbered=False)
    except UserError:
        return None
    words = ", ".join(finding.points[:2]) + (" .." if len(finding.points) > 2 else "")
    caption = f"{finding.confidence:.2f} {PurePath(finding.image).name}, no. {finding.annotation_id}: {words}"
    return Picture(tile, caption, finding.what)


def _beside(one: Instances, proposed: np.ndarray) -> np.ndarray:
    """The labels and the proposal side by side, each point in its colour: where points exchange their places, one drawing
    over the other would show no difference."""
    size = Size(SIDE, SIDE)
    box = geometry.box_of_points(one.xy[0].astype(np.float64), one.labelled[0], margin=0.2)
    matrix = geometry.crop(geometry.fit_aspect(box, size), size)
    bare = pictures.cut_out(one.images.read(int(one.image_row[0])), matrix, size)
    tiles = [
        pictures.draw_points(
            bare, geometry.transform(matrix, xy.astype(np.float64)), one.skeleton, labelled=one.labelled[0]
        )
        for xy in (one.xy[0], proposed)
    ]
    return pictures.contact_sheet(tiles, ["as labelled", "as proposed"], 2)


def _image(part: Instances, finding: Finding) -> Picture | None:
    """The image that a finding is about."""
    row = next((row for row in range(len(part.images)) if part.images.name(row) == finding.image), None)
    if row is None:
        return None
    try:
        tile = pictures.enlarged(part.images.read(row, 4), SIDE)
    except UserError:
        return None
    return Picture(tile, f"{finding.confidence:.2f} {PurePath(finding.image).name}: {finding.what}")
