"""`fiducial predict`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fiducial.cli.options import PartOption, StrictOption, refuse
from fiducial.errors import counted

ORDER = 50
CORPUS = ".parquet"


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="A run folder, a folder or file that `fiducial export` made, or `face`, which comes along."
        ),
    ],
    sources: Annotated[
        list[str], typer.Argument(help="Images, folders, videos, or camera:0; to FILE.parquet s3://.. and tables, too.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the pictures and results.json; or FILE.parquet: the points alone, of any number of pictures, "
            "by several processes."
        ),
    ] = Path("found"),
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|X,Y,W,H",
            help="COCO JSON whose annotations have boxes, or boxes for each image [the model's finder's; the whole image].",
        ),
    ] = None,
    finder: Annotated[
        Path | None,
        typer.Option(metavar="RUN|no", help="A model whose finder says where instances are [the model's own]."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Instances of a lower score are left out [the finder's choice].")
    ] = None,
    track: Annotated[
        bool,
        typer.Option(
            "--track", help="Tell who is who in videos: in the boxes of each frame, or followed from the first one's."
        ),
    ] = False,
    every: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="With --track: look for instances in every Nth frame, and follow them between."
        ),
    ] = 1,
    smooth: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="HZ",
            help="One-Euro filter for videos: cutoff of points at rest, lower is calmer [off; 1].",
        ),
    ] = None,
    second_pass: Annotated[
        bool,
        typer.Option(
            "--second-pass",
            help="With --track: go through each video again: smooth both ways, fill short gaps, join tracks.",
        ),
    ] = False,
    flip_test: Annotated[
        bool, typer.Option("--flip-test", help="Average over the picture and its mirror image.")
    ] = False,
    oks_nms: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Of boxes that hold the same instance keep the best: OKS above this [off; 0.9]."
        ),
    ] = None,
    hide_below: Annotated[
        float, typer.Option(min=0, metavar="SCORE", help="Don't draw points of a lower score; the results have them.")
    ] = 0.0,
    jobs: Annotated[int | None, typer.Option(min=1, help="To FILE.parquet: processes [one a core].")] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|local", help="To FILE.parquet: by the workers of Ray, of a cluster or here."),
    ] = None,
    strict: StrictOption = False,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", dir_okay=False, help="COCO results here instead of OUT/results.json; '-' prints them."),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", dir_okay=False, help="The points as a table, too: one row an instance.")
    ] = None,
    part: PartOption = None,
) -> None:
    """Find points in images and videos: drawings and COCO results come out.

    fiducial predict runs/mine photo.jpg holiday/ clip.mp4 --out found

    fiducial predict face photo.jpg

    fiducial predict shipped/model.onnx archive/ --out points.parquet
    """
    import fiducial

    if out.suffix == CORPUS:
        refuse(
            "not into a .parquet, which has points alone, picture by picture",
            track=track,
            every=every > 1,
            smooth=smooth,
            second_pass=second_pass,
            flip_test=flip_test,
            oks_nms=oks_nms,
            hide_below=hide_below > 0,
            strict=strict,
            json=json_file,
            csv=csv_file,
        )
        found = fiducial.predict_corpus(
            model,
            sources,
            out,
            boxes=boxes,
            finder=finder,
            min_score=min_score,
            jobs=jobs,
            ray=ray,
            progress=sys.stderr.isatty(),
        )
        bad = f", {len(found.problems)} that can't be read or have no points" if found.problems else ""
        speed = f"; {found.images / found.seconds:.1f} a second" if found.shards else ""
        typer.echo(
            f"{counted(found.images, 'image')}, {counted(found.instances, 'instance')}{bad}{speed}: {found.file}"
        )
        return
    refuse("is for --out FILE.parquet", jobs=jobs, ray=ray)
    printed = str(json_file) == "-"
    with tempfile.TemporaryDirectory() as folder:
        done = fiducial.predict(
            model,
            sources,
            out,
            boxes=boxes,
            finder=finder,
            min_score=min_score,
            track=track,
            every=every,
            smooth=smooth,
            second_pass=second_pass,
            flip_test=flip_test,
            oks_nms=oks_nms,
            hide_below=hide_below,
            strict=strict,
            json_file=Path(folder) / "results.json" if printed else json_file,
            csv_file=csv_file,
            progress=sys.stderr.isatty(),
        )
        if printed:
            typer.echo(done.json_file.read_text(encoding="utf-8"), nl=False)
            return
    speed = f", {done.images / done.seconds:.1f} a second" if done.images > 1 else ""
    typer.echo(
        f"{counted(done.images, 'image')}, {counted(done.instances, 'instance')}{speed}: {done.json_file}, pictures in {out}"
    )
