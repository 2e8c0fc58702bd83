"""`fiducial data sigmas`: OKS's constants of a data set, from labels given twice or from models, as a page and as figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fiducial import folders
from fiducial.api.arguments import optional_path, path_of, source_of
from fiducial.api.results import Result
from fiducial.data.source import Source
from fiducial.data.together import together
from fiducial.errors import UserError
from fiducial.labels import label_spread, reading
from fiducial.labels.label_spread import Sigmas
from fiducial.labels.unseen import MINUTES, look
from fiducial.log import logger
from fiducial.types import Instances

MODELS_CANT_KNOW = (
    "from models: what every annotator and both models get wrong alike is not seen, and where the models err more than the "
    "labels (column model) the figure is an upper bound rather than an estimate; labels given twice (--again DATA2) tell it"
)


def sigmas(
    data: Any,
    out: Any,
    *,
    again: Any = None,
    minutes: float = MINUTES,
    seed: int = 0,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    **choices: Any,
) -> Result:
    """Estimates the OKS constant of each point, with intervals of 90 %, and writes a page.

    From labels that were given twice where there are such: instances of `data` that lie on each other, or those of
    `again`, another annotator's labels of the same images. Else from three models that are trained here, in `minutes`,
    each on a third of the images (`choices`: further arguments of `fiducial.fit`); `out` keeps them.

    `result.figures["sigmas"]` is what `fiducial evaluate --sigmas` takes; None for a point with too few labels."""
    folder = path_of(out, "out")
    source = source_of(data, images, category)
    import jinja2  # noqa: F401  said before anything is measured

    with folders.alone(folder):
        labelled, said = reading.read(source)
        instances = given_twice = together([part for _, part in labelled.instances])
        if (other := optional_path(again, "again")) is not None:
            second = reading.read(Source(other).here())[0]
            given_twice = labelled_again(instances, together([part for _, part in second.instances]))
        result = label_spread.of_repeated(given_twice, seed)
        if result is None and again is not None:
            raise UserError(
                other, f"has too few instances on the images of {source} that are the same to tell how labels spread"
            )
        if result is None:
            unseen = look(
                labelled,
                folder,
                label_files=reading.files_of(source),
                minutes=minutes,
                seed=seed,
                progress=progress,
                **choices,
            )
            instances = unseen.instances
            result = label_spread.of_models(unseen, seed)
            said = [*([unseen.doubt] if unseen.doubt else []), *said]
        figures = {"data": str(source), **_figures(result, instances), "notes": [*said, *_notes(result)]}
        for note in figures["notes"][:20]:
            logger.warning(note)
        from fiducial.labels import sigmas_page

        page = sigmas_page.write(folder / "report.html", figures, instances.skeleton)
    figures["files"] = {"report": str(page)}
    return Result(figures=figures, table=_table(figures), lines=_lines(figures))


def labelled_again(first: Instances, second: Instances) -> Instances:
    """Joins two sets of labels of the same images, which are known by their files' names. UserError where none is the
    same."""
    names = [[Path(part.images.name(row)).stem for row in range(len(part.images))] for part in (first, second)]
    place = {name: row for row, name in enumerate(names[0])}
    row = np.array([place.get(names[1][row], -1) for row in second.image_row])
    if not (row >= 0).any():
        raise UserError(second.source, f"has no image of {first.source}; expected other labels of the same images")
    joined = together([first, second.with_points(first.skeleton).select(row >= 0)])
    joined.image_row[len(first) :] = row[row >= 0]
    return joined


def _figures(result: Sigmas, instances: Instances) -> dict[str, Any]:
    rows = label_spread.as_rows(result, instances)
    known = instances.skeleton.sigmas
    both = known is not None and result.known
    return {
        "repeated": result.repeated,
        "sigmas": [row["sigma"] for row in rows],
        "per_point": rows,
        "stated": None if known is None else list(known),
        "rank_correlation": label_spread.rank_correlation(result.sigma, np.array(known)) if both else None,
    }


def _notes(result: Sigmas) -> list[str]:
    nothing = int((result.low <= 2 * label_spread.SMALLEST).sum())
    line = f"{nothing} points: nothing is left of the distances when the models' share is taken off, so that their spread may be 0"
    return [] if result.repeated else [MODELS_CANT_KNOW, *([line] if nothing else [])]


def _table(figures: dict[str, Any]) -> list[dict[str, Any]]:
    stated = figures["stated"] or [None] * len(figures["per_point"])
    return [
        {name: "–" if value is None else value for name, value in {**row, "stated": given}.items()}
        for row, given in zip(figures["per_point"], stated, strict=True)
    ]


def _lines(figures: dict[str, Any]) -> list[str]:
    of = "labels given twice" if figures["repeated"] else "labels and models that had not seen them"
    lines = [f"sigmas of {of}; low and high are an interval of 90 %"]
    if figures["rank_correlation"] is not None:
        lines.append(
            f"the order of the points is that of the sigmas that the data state to {figures['rank_correlation']:.2f} (Spearman)"
        )
    if None not in figures["sigmas"]:
        lines.append(f"--sigmas {','.join(f'{value:.4f}' for value in figures['sigmas'])}")
    return lines
