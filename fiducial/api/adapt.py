"""`fiducial.adapt`: what `fiducial adapt` does."""

from __future__ import annotations

from typing import Any

from fiducial import folders
from fiducial.api.arguments import path_of, refuse, source_of
from fiducial.api.fit import data_of, splits_of
from fiducial.api.results import Run, say
from fiducial.errors import UserError
from fiducial.training.recipe import Recipe
from fiducial.types import Instances


def adapt(
    model: Any,
    data: Any,
    out: Any,
    *,
    val: Instances | None = None,
    views: int = 1,
    images: Any = None,
    category: str | None = None,
    group: str | None = None,
    strict: bool = False,
    progress: bool = False,
) -> Run:
    """Gives a network that is there one's own points, by a linear map from its points that labels teach; trains nothing.

    Args:
        model: a file that runs without torch: another project's network (.onnx, .tflite, .task), an exported model, or the
            name of one that comes along, such as "face".
        data, val: labelled data as for `fiducial.fit`; five labelled instances in train are the least. The figures are of val.
        views: of each crop that the network is asked about, of whose answers the mean is taken: nearer, and as many times as slow.
        out: a new folder, for the network's file with the map beside it; `fiducial.load(out)` runs it.

    Raises UserError where the model is a run folder, or there are too few labels."""
    from fiducial import distillation
    from fiducial.training.fit import load_data

    folder = path_of(out, "out")
    with folders.alone(folder):
        chosen = {"views": views, "strict": strict, "bar": progress}
        network = path_of(model, "model")
        if isinstance(data, Instances):
            refuse(
                "Instances",
                {"images": images is not None, "category": category is not None, "group": group is not None},
            )
            whole = splits_of(data, val, seed=0)
            made = distillation.adapt(network, data_of(*whole, Recipe()), whole[1], folder, **chosen)
        elif val is not None:
            raise UserError("val", "is for Instances; data on a disk have their own, or a tenth of train is taken")
        else:
            source = source_of(data, images, category, (), group)
            made = distillation.adapt(network, load_data(source, Recipe(strict=strict)), source, folder, **chosen)
    say(list(dict.fromkeys([*made.figures["notes"], *made.figures["problems"]])))
    return Run(figures=made.figures, lines=made.lines, folder=folder)
