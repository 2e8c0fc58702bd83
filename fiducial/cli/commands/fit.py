"""`fiducial fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fiducial.cli.options import (
    AlsoOption,
    CategoryOption,
    GroupOption,
    ImagesOption,
    JsonOption,
    StrictOption,
    a_model,
    choices,
)
from fiducial.cli.output import finish, has_bar
from fiducial.errors import UserError

ORDER = 20
AFTER_STOP = "`fiducial fit` continues exactly with --resume"


@choices(
    *("method", "backbone", "size", "epochs", "batch_size", "lr", "seed", "points", "init", "pretrained"),
    *(
        "licence",
        "patience",
        "minutes",
        "folds",
        "plan",
        "plan_only",
        "check",
        "preflight",
        "recipe",
        "settings",
        "resume",
        "devices",
        "node",
    ),
)
def fit(
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder with annotations/{train,val,test}.json beside images/, any supported format's root, or one "
            "annotation file. With --method motion: videos, folders of frames, pictures, or any of the former."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder of the run: weights, checkpoints, history, report.")
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            help="Images or videos without labels to learn from too: a folder, a video, or annotations whose boxes alone "
            "are used (docs/few_labels.md)."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--from",
            callback=a_model,
            help="A network of another project (.onnx, .tflite) or its results (.json): it labels the instances of train that "
            "have a box and no labels, by a map that the labelled ones teach (docs/teachers.md).",
        ),
    ] = None,
    finder: Annotated[
        str | None,
        typer.Option(
            metavar="auto|no|RUN",
            help="A finder of instances beside the detector: where the data need one, none, or that of a run [auto where runs "
            "are planned].",
        ),
    ] = None,
    images: ImagesOption = None,
    category: CategoryOption = None,
    also: AlsoOption = None,
    group: GroupOption = None,
    strict: StrictOption = False,
    json_file: JsonOption = None,
    **chosen: Any,
) -> None:
    """Train a detector on labelled images, or on videos without labels.

    fiducial fit faces/ --out runs/faces --minutes 20

    fiducial fit mice/ --out runs/mice --folds 5

    fiducial fit faces/ --out runs/few --unlabelled photos/

    fiducial fit faces/ --out runs/faces --from face_landmark.tflite

    fiducial fit videos/ --out runs/motion --method motion
    """
    import fiducial
    from fiducial.data.source import Source

    if out is None and not chosen["plan_only"]:
        raise UserError("--out: missing; expected a folder for the run")
    source = Source(data, images, category, tuple(also or ()), group).here()  # before what takes seconds to import
    words = {"unlabelled": unlabelled, "teacher": teacher, "finder": finder, "strict": strict}
    finish(fiducial.fit(source, out, progress=has_bar(json_file), **words, **chosen), json_file)
