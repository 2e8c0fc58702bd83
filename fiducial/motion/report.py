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
from fiducial.motion import pairs
from fiducial.motion.clips import Clips
from fiducial.motion.objective import Motion
from fiducial.motion.pairs import PairBatches, PairDraw
from fiducial.motion.recipes import MotionRecipe
from fiducial.motion.scoring import MEANINGS, ReconstructionErrors, Spread, warnings_of
from fiducial.report import pictures, sheets
from fiducial.report.page import Fact, Gallery, Page, Picture, Section, Table, metric_table, torch_device
from fiducial.report.run_page import Run, page_of_run, read_run, write_run
from fiducial.report.sheets import Tile

MOST_ROWS = 16  # of a sheet
COLUMNS = 6  # frames of a clip

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
    summary = {
        "model": str(out),
        "data": data,
        "split": clips.split,
        "count": len(pairs.scored_pairs(clips, clips.scored)),
        "metrics": score(objective, clips, recipe, clips.scored),
        "clips": clip_rows(objective, clips, recipe),
        "left_out": [str(problem) for problem in clips.problems],
    }
    points, reconstruction = points_sheet(objective, clips), reconstruction_sheet(objective, clips)
    pictures.write(out / "pictures" / "points.png", points)
    pictures.write(out / "pictures" / "reconstruction.png", reconstruction)
    run = read_run(out)
    notes = [*([warning] if warning else []), *notes_on(summary["metrics"], clips, recipe.motion.points)]
    return write_run(run, summary, _page(run, recipe, clips, summary, points, reconstruction, notes))


# --------------------------------------------------------------------------------------------------------- figures


def score(objective: Motion, clips: Clips, recipe: MotionRecipe, chosen: Sequence[int]) -> dict[str, float]:
    """Scores the weights that were kept on some clips, as after each epoch of training."""
    errors = ReconstructionErrors(recipe.size)
    for batch in pairs.scored_loader(clips, recipe.batch_size, chosen=chosen):
        errors.observe(objective, batch.to(objective.detector.mean.device))
    return errors.scores()


def clip_rows(objective: Motion, clips: Clips, recipe: MotionRecipe) -> list[dict[str, Any]]:
    """Scores each clip, and all still images, which are moved by random warps, together."""
    rows = []
    for name, members in clips.grouped(clips.scored):
        figures = score(objective, clips, recipe, members)
        frames, count = sum(clips.index.counts[clip] for clip in members), len(pairs.scored_pairs(clips, members))
        shown = {key: figures[key] for key in ("reconstruction", "copy", "gain", "equivariance_px")}
        rows.append({"clip": name, "frames": frames, "pairs": count, **shown})
    return rows


# -------------------------------------------------------------------------------------------------------- pictures


@torch.no_grad()
def points_sheet(objective: Motion, clips: Clips) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draws a row a clip, or a row of some stills: frames evenly over it with the points in their colours, held-out ones
    with a bright edge."""
    rows = []
    for frames in _rows_shown(clips):
        images = torch.from_numpy(np.ascontiguousarray(clips.frames[frames]))
        xy = objective.detector.predict(images.to(objective.detector.mean.device)).numpy().xy
        tiles = []
        for row, image, points in zip(frames, images.numpy(), xy, strict=True):
            clip, tile = clips.clip_of(row), pictures.enlarged(image, sheets.SIDE, points)
            names_clip = row == frames[0] or clips.index.counts[clip] == 1
            name = clips.index.names[clip] if names_clip else f"frame {row - clips.rows(clip)[0]}"
            tiles.append(Tile(sheets.framed(tile) if clips.index.held_out[clip] else tile, sheets.tail(name)))
        rows.append(tiles)
    return sheets.sheet(rows, objective.spec.points)


def _rows_shown(clips: Clips) -> list[list[int]]:
    """Frames of the sheet's rows: half of the rows of held-out clips where there are so many, stills last."""
    moving_rows: list[list[int]] = []
    still_rows: list[list[int]] = []
    for held_out in (True, False):
        moving, stills = clips.by_kind(clips.chosen(held_out))
        moving_rows += [_evenly(clips.rows(clip), COLUMNS) for clip in _evenly(moving, MOST_ROWS // 2)]
        frames = _evenly([clips.rows(clip)[0] for clip in stills], 2 * COLUMNS)
        still_rows += [frames[start : start + COLUMNS] for start in range(0, len(frames), COLUMNS)]
    return moving_rows + still_rows


@torch.no_grad()
def reconstruction_sheet(objective: Motion, clips: Clips) -> UInt8[np.ndarray, "_ _ 3"]:
    """Draws a row a scored clip: its first frame, the scored frame that differs most from it, what was made of the first
    one to be that frame, and the first one's own pixels moved by the flow."""
    moving, stills = clips.by_kind(clips.scored)
    rows = []
    for clip in [*_evenly(moving, MOST_ROWS - 2), *_evenly(stills, 2)]:
        source, driving = _most_different(clips, clip)
        batch = PairBatches(clips, None)[PairDraw(0, 0, np.array([[source, driving]]))]
        made = objective.reconstruct(batch.to(objective.detector.mean.device), torch.Generator().manual_seed(0))
        prediction, deformed = made.generated.prediction, made.generated.deformed
        error = float((prediction.float() - made.driving).abs().mean())
        frame = "warped" if source == driving else f"driving: frame {driving - source}"
        tiles = [
            (clips.frames[source], sheets.tail(clips.index.names[clip])),
            (_bytes(made.driving[0]), frame),
            (_bytes(prediction[0]), f"generated, error {error:.3f}"),
            (_bytes(deformed[0]), "source moved by the flow"),
        ]
        rows.append([Tile(pictures.enlarged(image, sheets.SIDE), caption) for image, caption in tiles])
    return sheets.sheet(rows)


def _most_different(clips: Clips, clip: int) -> tuple[int, int]:
    """The first frame and, of those that are scored, the one that differs most from it: what is hardest to make."""
    scored = pairs.scored_pairs(clips, [clip])
    first = clips.frames[scored[0, 0]].astype(np.int16)
    different = max(scored[:, 1].tolist(), key=lambda row: int(np.abs(clips.frames[row] - first).sum()))
    return int(scored[0, 0]), different


def _bytes(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Of values in 0..1."""
    return (image.float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


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
    figures, index, count = summary["metrics"], clips.index, recipe.motion.points
    metrics = metric_table(
        [(name, figures[name], meaning) for name, meaning in MEANINGS.items()],
        f"On {summary['split']}",
        f"{summary['count']} frames, each made from the first of its clip.",
    )
    shown = [
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
    columns = ("clip", "frames", "scored", "reconstruction", "copy", "gain", "equivariance px")
    return page_of_run(
        run,
        title=f"{recipe.method} on {recipe.backbone}: {run.folder.name}",
        facts=[Fact(name.replace("_", " "), figures[name], MEANINGS[name]) for name in HEADLINE],
        notes=notes,
        metrics=metrics,
        drawn=run.charts(*CURVES),
        shown=shown,
        details=[Section("Clip by clip", [Table(columns, [tuple(row.values()) for row in summary["clips"]])])],
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


def notes_on(figures: Mapping[str, float], clips: Clips, points: int) -> list[str]:
    """Says what a reader must know before believing the figures."""
    spread = Spread(*(figures[name] for name in Spread._fields))
    notes = [line[0].upper() + line[1:] + "." for line in warnings_of(spread, points)]
    if figures["gain"] <= 0:
        notes.append("The generated frames are no better than the source frame itself: the motion has not been learnt.")
    if not clips.chosen(held_out=True):
        notes.append("No clip was held out: these are frames that were learnt from. Add clips to see what is general.")
    return notes
