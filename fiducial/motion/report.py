"""The report of a run without labels: how well clips that were held out are made from their first frames, where the points
sit over all clips and people, and how training went.

    RUN/metrics.json                    the figures
    RUN/report.html                     with everything below in it
    RUN/pictures/points.png             the same points over frames of all clips
    RUN/pictures/reconstruction.png     source, driving frame, what was made of them, the source moved"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fiducial.data import sampling
from fiducial.motion import collapse, pairs
from fiducial.motion.clips import Clips
from fiducial.motion.collapse import Spread
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import SCORED_A_CLIP, FramePairs, PairBatches, PairDraw
from fiducial.motion.scoring import ReconstructionErrors
from fiducial.motion.spec import MotionRecipe
from fiducial.report import pictures, sheets
from fiducial.report.page import Fact, Gallery, Page, Picture, Section, Table, metric_table, torch_device
from fiducial.report.run_page import Run, page_of_run, read_run, write_run
from fiducial.report.sheets import Tile

MOST_ROWS = 16  # of a sheet
COLUMNS = 6  # frames of a clip

MEANINGS = {
    "reconstruction": "mean absolute error of the generated frames, of a range of 1",
    "copy": "the same of the source frame itself, taken for the driving one",
    "gain": "the share of that which the motion saves; 0 = no better than copying, 1 = perfect",
    "equivariance_px": "how far points of a warped frame, warped back, are from the frame's own, px of the input",
    "spread": "standard deviation of a frame's points around their middle, as a share of the side",
    "nearest": "mean distance of a point to the nearest other, as a share of the side",
    "occupancy": "cells of 8x8 with a point in them, of as many as there could be",
    "moving": "share of the points that move by more than 1 % of the side between frames",
}
HEADLINE = ("reconstruction", "gain", "equivariance_px", "moving")
CURVES = (
    ("Reconstruction", ["val/reconstruction", "val/copy"], "The lower the first below the second, the better."),
    ("Equivariance, px", ["val/equivariance_px"], "How far points are off when the image is warped."),
    ("Where the points are", [f"val/{name}" for name in Spread._fields], ""),
)


def write(
    out: Path, recipe: MotionRecipe, clips: Clips, objective: Motion, *, data: str, warning: str = ""
) -> dict[str, Any]:
    """Scores the system, writes figures, pictures and the page, and gives the figures and where the files are.

    data: what was learnt from, in words; warning: why the run is worth little, if it is."""
    objective.eval()
    chosen = clips.scored
    figures = score(objective, clips, recipe, chosen)
    rows = clip_rows(objective, clips, recipe, chosen)
    summary = {
        "model": str(out),
        "data": data,
        "split": clips.split,
        "count": len(pairs.scored_pairs(clips, chosen)),
        "metrics": figures,
        "clips": rows,
        "left_out": [str(problem) for problem in clips.problems],
    }
    points, reconstruction = points_sheet(objective, clips), reconstruction_sheet(objective, clips, chosen)
    pictures.write(out / "pictures" / "points.png", points)
    pictures.write(out / "pictures" / "reconstruction.png", reconstruction)
    run = read_run(out)
    notes = [*([warning] if warning else []), *notes_on(figures, clips, recipe.motion.points)]
    return write_run(run, summary, _page(run, recipe, clips, summary, points, reconstruction, notes))


# --------------------------------------------------------------------------------------------------------- figures


def score(objective: Motion, clips: Clips, recipe: MotionRecipe, chosen: Sequence[int]) -> dict[str, float]:
    """As val's during training, of some clips, by the weights that are kept."""
    errors = ReconstructionErrors(recipe.size)
    for batch in pairs.scored_loader(clips, recipe.batch_size, chosen=chosen):
        errors.observe(objective, _on_device(objective, batch))
    return errors.scores()


def clip_rows(objective: Motion, clips: Clips, recipe: MotionRecipe, chosen: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each scored clip, and one for all still pictures, which are moved by random warps."""
    rows = []
    for name, some in clips.grouped(chosen):
        found = score(objective, clips, recipe, some)
        kept = {key: found[key] for key in ("reconstruction", "copy", "gain", "equivariance_px")}
        frames = sum(clips.index.counts[clip] for clip in some)
        rows.append({"clip": name, "frames": frames, "pairs": len(pairs.scored_pairs(clips, some)), **kept})
    return rows


# -------------------------------------------------------------------------------------------------------- pictures


@torch.no_grad()
def points_sheet(objective: Motion, clips: Clips) -> UInt8[np.ndarray, "_ _ 3"]:
    """A row a clip, or a row of some stills: frames evenly over it with the points in their colours, held-out ones with a
    bright edge."""
    rows = []
    for frames in _shown(clips):
        images = torch.from_numpy(np.ascontiguousarray(clips.frames[frames]))
        xy = objective.detector.predict(images.to(objective.detector.mean.device)).numpy().xy
        rows.append([
            _point_tile(clips, row, pictures.enlarged(image, sheets.SIDE, points), whole=row == frames[0])
            for row, image, points in zip(frames, images.numpy(), xy, strict=True)
        ])  # fmt: skip
    return sheets.sheet(rows, objective.spec.points)


def _point_tile(clips: Clips, row: int, image: np.ndarray, whole: bool) -> Tile:
    """Named by its clip, where that is `whole`ly said or the clip has no other frame, else by its frame."""
    clip = clips.clip_of(row)
    name, held_out = clips.index.names[clip], clips.index.held_out[clip]
    if not whole and clips.index.counts[clip] > 1:
        name = f"frame {row - clips.rows(clip)[0]}"
    return Tile(sheets.framed(image) if held_out else image, sheets.tail(name))


def _shown(clips: Clips) -> list[list[int]]:
    """Frames of the rows: half of the rows of held-out clips where there are so many, stills last."""
    counts = clips.index.counts
    rows: list[list[int]] = []
    for held_out in (True, False):
        moving = [clip for clip in clips.chosen(held_out) if counts[clip] > 1]
        rows += [_evenly(list(clips.rows(clip)), COLUMNS) for clip in _evenly(moving, MOST_ROWS // 2)]
    for held_out in (True, False):
        stills = [clips.rows(clip)[0] for clip in clips.chosen(held_out) if counts[clip] == 1]
        some = _evenly(stills, 2 * COLUMNS)
        rows += [some[start : start + COLUMNS] for start in range(0, len(some), COLUMNS)]
    return rows


@torch.no_grad()
def reconstruction_sheet(objective: Motion, clips: Clips, chosen: Sequence[int]) -> UInt8[np.ndarray, "_ _ 3"]:
    """A row a scored clip: its first frame, the scored frame that differs most from it, what was made of the first one
    to be that frame, and the first one's own pixels moved by the flow."""
    moving = [clip for clip in chosen if clips.index.counts[clip] > 1]
    stills = [clip for clip in chosen if clips.index.counts[clip] == 1]
    rows = []
    for clip in [*_evenly(moving, MOST_ROWS - 2), *_evenly(stills, 2)]:
        source, driving = _most_different(clips, clip)
        draw = PairDraw(0, 0, np.array([[source, driving]]))
        batch = _on_device(objective, PairBatches(clips, None)[draw])
        found = objective.reconstruct(batch, torch.Generator().manual_seed(0))
        made, moved, real = (
            _bytes(part[0]) for part in (found.generated.prediction, found.generated.deformed, found.driving)
        )
        error = float((found.generated.prediction.float() - found.driving).abs().mean())
        frame = "warped" if source == driving else f"driving: frame {driving - source}"
        tiles = [(clips.frames[source], sheets.tail(clips.index.names[clip])), (real, frame),
                 (made, f"generated, error {error:.3f}"), (moved, "source moved by the flow")]  # fmt: skip
        rows.append([Tile(pictures.enlarged(image, sheets.SIDE), caption) for image, caption in tiles])
    return sheets.sheet(rows)


def _most_different(clips: Clips, clip: int) -> tuple[int, int]:
    """The first frame and, of those that are scored, the one that differs most from it: what is hardest to make."""
    rows = clips.rows(clip)
    others = _evenly(list(rows), SCORED_A_CLIP + 1)[1:] or [rows[0]]
    first = clips.frames[rows[0]].astype(np.int16)
    return rows[0], max(others, key=lambda row: int(np.abs(clips.frames[row] - first).sum()))


def _bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Of values in 0..1."""
    return (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _on_device(objective: Motion, batch: FramePairs) -> FramePairs:
    return FramePairs(*(column.to(objective.detector.mean.device) for column in batch))


def _evenly(items: Sequence[int], most: int) -> list[int]:
    """At most so many of them, the first and the last among them."""
    return [items[place] for place in sampling.places(len(items), most).tolist()]


# ------------------------------------------------------------------------------------------------------------ page


def _page(
    run: Run,
    recipe: MotionRecipe,
    clips: Clips,
    summary: Mapping[str, Any],
    points: np.ndarray,
    reconstruction: np.ndarray,
    notes: Sequence[str],
) -> Page:
    figures, index = summary["metrics"], clips.index
    metrics = metric_table(
        [(name, figures[name], meaning) for name, meaning in MEANINGS.items()],
        f"On {summary['split']}",
        f"{summary['count']} frames, each made from the first of its clip.",
    )
    clip_table = Table(
        ("clip", "frames", "scored", "reconstruction", "copy", "gain", "equivariance px"),
        [tuple(row.values()) for row in summary["clips"]],
    )
    return page_of_run(
        run,
        title=f"{recipe.method} on {recipe.backbone}: {run.folder.name}",
        facts=[Fact(name.replace("_", " "), figures[name], MEANINGS[name]) for name in HEADLINE],
        notes=notes,
        metrics=metrics,
        drawn=run.charts(*CURVES),
        shown=_galleries(recipe.motion.points, points, reconstruction),
        details=[Section("Clip by clip", [clip_table])],
        data={
            "data": summary["data"],
            "used": index.used,
            "clips to learn from": len(clips.chosen(held_out=False)),
            "clips held out": len(clips.chosen(held_out=True)),
            "frames": sum(index.counts),
        },
        problems=summary["left_out"],
        device=torch_device(),
    )


def _galleries(count: int, points: np.ndarray, reconstruction: np.ndarray) -> list[Gallery]:
    return [
        Gallery(
            "Points",
            [Picture(points, f"{count} points over frames of the clips, rows are clips")],
            "Each point has one colour everywhere. It is worth something where it marks the same place on everyone. "
            "Frames with a bright edge were held out.",
            sheets.legend(count),
            wide=True,
        ),
        Gallery(
            "Reconstruction",
            [Picture(reconstruction, "Source, driving frame, generated, source moved")],
            "Of each clip the scored frame that differs most from the first one: what is hardest to make.",
            wide=True,
        ),
    ]


def notes_on(figures: Mapping[str, float], clips: Clips, points: int) -> list[str]:
    """What a reader must know before believing the figures."""
    spread = Spread(*(figures[name] for name in Spread._fields))
    notes = [line[0].upper() + line[1:] + "." for line in collapse.warnings_of(spread, points)]
    if figures["gain"] <= 0:
        notes.append("The generated frames are no better than the source frame itself: the motion has not been learnt.")
    if not clips.chosen(held_out=True):
        notes.append("No clip was held out: these are frames that were learnt from. Add clips to see what is general.")
    return notes
