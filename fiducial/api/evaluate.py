"""`fiducial.evaluate`: what `fiducial evaluate` does, of a model, of a results file, or of arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fiducial import folders
from fiducial.api.arguments import optional_path, path_of, refuse, source_of
from fiducial.api.results import Result, say
from fiducial.data.source import Source
from fiducial.errors import UserError
from fiducial.types import Instances

if TYPE_CHECKING:
    from fiducial.runtime.runtime import Network


def evaluate(
    predicted: Any,
    truth: Any,
    split: str | None = None,
    *,
    results: bool | None = None,
    flip_test: bool = False,
    box_jitter: float = 0.0,
    sigmas: Sequence[float] | None = None,
    report: Any = None,
    linear_map: bool = False,
    oks_nms: float | None = None,
    explain: bool = False,
    finder: Any = None,
    images: Any = None,
    category: str | None = None,
    group: str | None = None,
    strict: bool = False,
    progress: bool = False,
    **columns: Any,
) -> Result:
    """Measures a model on labelled data, a results file against its truth, or points in arrays; every figure by the same
    functions.

    Args:
        predicted: a model (`fiducial.load`, a run, a path); a results file of any tool; or points in arrays: xy [n, k, 2]
            px, Keypoints, or the list of Keypoints that `model.batch` gives.
        truth: data as for `fiducial.fit`, or Instances; of a results file the annotation file; of points xy [n, k, 2] px
            with NaN where not labelled, or Instances.
        split: of data [test, with linear_map val]. report: where to write a page. linear_map: by a map from the points to
            the labelled ones. sigmas: of OKS, one a point. oks_nms: of results, see the command.
        explain: what kind of error each point is, and what each kind costs: `result.figures["errors"]`.
        finder: of a model on data: the model whose finder is judged beside the true boxes [its own, where it has one], or "no".
        results: whether `predicted` is a results file [where its name ends in .json].
        group: what belongs together, as `--group` says: intervals are of such groups drawn anew.
        columns: about arrays, see `evaluate_points`.

    `result["nme"]` gives a figure, `result.metrics` all; `result.notes` says what was assumed. Raises UserError where the
    arguments don't fit each other."""
    chosen = {
        "split": split is not None,
        "flip_test": flip_test,
        "box_jitter": box_jitter > 0,
        "report": report is not None,
        "linear_map": linear_map,
        "oks_nms": oks_nms is not None,
        "explain": explain,
        "finder": finder is not None,
        "images": images is not None,
        "category": category is not None,
        "group": group is not None,
        "strict": strict,
    }
    loaded = None if isinstance(predicted, (str, os.PathLike)) else _network(predicted)
    if loaded is None and not isinstance(predicted, (str, os.PathLike)):
        from fiducial.api.points import evaluate_points

        refuse("points in arrays", chosen)
        return _said(evaluate_points(predicted, truth, sigmas=sigmas, **columns))
    if columns:
        raise UserError(
            next(iter(columns)), "is about points in arrays, and a model or a file is measured; leave it out"
        )
    if loaded is None:
        path = path_of(predicted, "predicted")
        if results or (results is None and path.suffix.lower() == ".json"):
            about_models = ("split", "flip_test", "box_jitter", "report", "linear_map", "images", "finder")
            refuse("a results file", _of(chosen, *about_models))
            from fiducial.evaluation import predictions, videos

            figures = predictions.evaluate_results(
                path,
                path_of(truth, "truth"),
                sigmas=sigmas,
                category=category,
                strict=strict,
                oks_nms=oks_nms,
                explain=explain,
                group=group,
            )
            lines = [videos.line(figures["tracking"])] if "tracking" in figures else []
            return _said(Result(figures=figures, lines=[*_drawn(figures), *lines]))
    if oks_nms is not None:
        raise UserError("--oks-nms: only with --predictions; a model's points are one to an instance of the data")
    data = truth if isinstance(truth, Instances) else source_of(truth, images, category, (), group)
    if isinstance(data, Instances):
        refuse("Instances", _of(chosen, "split", "report", "linear_map", "images", "category"))
    if loaded is not None:
        refuse("a loaded model", _of(chosen, "flip_test", "linear_map", "report", "finder"))
    model = path_of(predicted, "predicted") if loaded is None else loaded
    page = optional_path(report, "report")
    if page is not None:
        import jinja2  # noqa: F401  said before anything is measured
    if linear_map and isinstance(data, Source) and isinstance(model, Path):
        refuse(
            "linear_map", {**_of(chosen, "flip_test", "box_jitter", "explain", "finder"), "sigmas": sigmas is not None}
        )
        with folders.alone_at(page):
            return _said(_by_linear_map(model, data, split or "val", strict, progress, page))
    from fiducial.evaluation import evaluate as evaluating
    from fiducial.evaluation import found, spread, visibility

    with folders.alone_at(page):
        result = evaluating.evaluate_model(
            model,
            data,
            split or "test",
            strict=strict,
            flip_test=flip_test,
            box_jitter=box_jitter,
            sigmas=None if sigmas is None else tuple(float(value) for value in sigmas),
            explain=explain,
            finder=optional_path(finder, "finder"),
        )
        if page is not None and isinstance(data, Source) and isinstance(model, Path):
            from fiducial.report import detector_report

            detector_report.write_evaluation(page, result, model, data.path, split or "test")
    of_boxes = found.lines(result.summary["found"]) if "found" in result.summary else []
    lines = [*of_boxes, *_drawn(result.summary), *spread.lines(result.summary), *visibility.lines(result.summary)]
    return _said(Result(figures=result.summary, lines=lines))


def _network(predicted: Any) -> Network | None:
    """The network of a loaded model; None of anything else."""
    from fiducial.runtime.runtime import Runtime

    return predicted.network if isinstance(predicted, Runtime) else None


def _said(result: Result) -> Result:
    """Says what was assumed and left out."""
    say(result.notes)
    return result


def _drawn(figures: Mapping[str, Any]) -> list[str]:
    """What intervals are of, where there are some."""
    from fiducial.evaluation import intervals

    line = intervals.line(figures)
    return [line] if line else []


def _of(chosen: Mapping[str, bool], *names: str) -> dict[str, bool]:
    return {name: chosen[name] for name in names}


def _by_linear_map(model: Path, data: Source, split: str, strict: bool, progress: bool, page: Path | None) -> Result:
    from fiducial import motion

    result = motion.evaluate_by_linear_map(model, data, split, strict=strict, bar=progress)
    if page is not None:
        motion.write_linear_map(page, result)
    return Result(
        figures=motion.linear_map_summary(result),
        table=motion.linear_map_table(result),
        lines=motion.linear_map_answer(result),
    )
