"""`fiducial.predict`: what `fiducial predict` does. Of images in memory: `model(image)` and `model.batch(images)`."""

from __future__ import annotations

import os
from typing import Any

from fiducial.api.arguments import optional_path, path_of
from fiducial.prediction import corpus
from fiducial.prediction.corpus import CorpusPrediction
from fiducial.prediction.pipeline import Choices
from fiducial.prediction.predict import Prediction, predict_sources
from fiducial.prediction.smoothing import OneEuro


def predict(
    model: Any,
    sources: Any,
    out: Any,
    *,
    boxes: Any = None,
    finder: Any = None,
    min_score: float | None = None,
    track: bool = False,
    every: int = 1,
    smooth: float | None = None,
    second_pass: bool = False,
    flip_test: bool = False,
    oks_nms: float | None = None,
    hide_below: float = 0.0,
    strict: bool = False,
    json_file: Any = None,
    csv_file: Any = None,
    progress: bool = False,
) -> Prediction:
    """Finds points in files and writes drawings and COCO results; `prediction.results` gives their entries.

    Args:
        model: a run, its folder, or an exported file.
        sources: paths of images, folders and videos, or "camera:0"; one or a list of them.
        out: folder for the drawings and results.json, which json_file and csv_file may put elsewhere.
        boxes: COCO JSON with the boxes to look in [those that the model's finder finds; without one the whole image].
        finder: a model whose finder is used instead, or "no"; min_score: of the instances that count [the finder's choice].
        track: tell who is who in videos; every: look for instances in each such frame, and follow them between.
        smooth: cutoff of a One-Euro filter, Hz. second_pass: smooth videos both ways, fill short gaps, join tracks.
        oks_nms: of boxes that hold the same instance keep the best, at this OKS. hide_below: points of a lower score are not
            drawn; the results have them. strict: what can't be read is an error.

    Raises UserError before anything is written for what is wrong with the arguments."""
    names = [sources] if isinstance(sources, (str, os.PathLike)) else list[Any](sources)
    one_euro = None if smooth is None else OneEuro(smooth)
    choices = Choices(
        track=track,
        every=every,
        smooth=one_euro,
        second_pass=second_pass,
        flip_test=flip_test,
        oks_nms=oks_nms,
        hide_below=hide_below,
        strict=strict,
    )
    return predict_sources(
        path_of(model, "model"),
        [name if isinstance(name, str) else os.fspath(path_of(name, "sources")) for name in names],
        path_of(out, "out"),
        boxes=optional_path(boxes, "boxes"),
        finder=optional_path(finder, "finder"),
        min_score=min_score,
        choices=choices,
        json_file=optional_path(json_file, "json_file"),
        csv_file=optional_path(csv_file, "csv_file"),
        bar=progress,
    )


def predict_corpus(
    model: Any,
    sources: Any,
    out: Any,
    *,
    boxes: Any = None,
    finder: Any = None,
    min_score: float | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    progress: bool = False,
) -> CorpusPrediction:
    """Finds points on any number of pictures and writes them into one Parquet file; the same call goes on where it stopped.

    Args:
        model, boxes, finder, min_score: as `predict` has them. out: the file.
        sources: paths of images and folders, addresses of stores (s3://bucket/folder), Parquet tables with images' files.
        jobs: processes [one a core]. ray: "local", or the address of a cluster: Ray's workers instead.

    The file has a row an instance, and one for each picture without any (docs/corpora.md)."""
    names = [sources] if isinstance(sources, (str, os.PathLike)) else list[Any](sources)
    return corpus.predict_corpus(
        path_of(model, "model"),
        [name if isinstance(name, str) else os.fspath(path_of(name, "sources")) for name in names],
        path_of(out, "out"),
        boxes=optional_path(boxes, "boxes"),
        finder=optional_path(finder, "finder"),
        min_score=min_score,
        jobs=jobs,
        ray=ray,
        bar=progress,
    )
