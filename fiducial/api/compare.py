"""`fiducial.compare`: what `fiducial compare` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiducial.api.arguments import names_of, options_of, path_of, settings_of, source_of
from fiducial.api.results import Result
from fiducial.comparison import by_labels, workflow
from fiducial.comparison import methods as entries
from fiducial.comparison.places import Places


def compare(
    data: Any,
    out: Any,
    *,
    methods: str | Sequence[str] | None = None,
    backbones: str | Sequence[str] | None = None,
    sizes: str | Sequence[Any] | None = None,
    seeds: int = 1,
    runs: Sequence[Any] = (),
    split: str = "val",
    baseline: str | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | str | None = None,
    points: Sequence[int] | str | None = None,
    pretrained: str | None = None,
    recipe: str | None = None,
    plan: bool = True,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Result:
    """Trains methods on the same data under the same budget and says which is best; the same call continues.

    Args:
        data: a path that `fiducial fit` takes; out: folder of the comparison.
        methods: as the command has them, such as ["heatmap", "deeppose:dropout=0.1"]; backbones, sizes: of each.
        runs: finished runs or exported files to compare, alone or beside the methods.
        split: what is scored, val or test; baseline: the method that differences are to [the best].
        jobs: runs at a time [1, or one a GPU, or one a machine]; ray: train on the machines of a cluster, "HOST:PORT",
            "auto" or "local".
        plan: what is common to all and chosen by nobody is decided by the data, as `fit` does; False continues a
            comparison that was begun before there were plans.
        The others are those of `fiducial.fit`, for every run.

    `result.table` has a row a method, `result.lines` the answer in sentences, `result.files` the page."""
    cells = entries.plan_of_words(
        source_of(data, images, category),
        methods=names_of(methods),
        backbones=names_of(backbones),
        sizes=names_of(sizes),
        seeds=seeds,
        recipe=recipe,
        options=options_of(epochs=epochs, batch_size=batch_size, lr=lr, points=points, pretrained=pretrained),
        settings=settings_of(more, settings),
        planned=plan,
    )
    others = [path_of(run, "runs") for run in runs]
    figures = workflow.compare(
        cells,
        path_of(out, "out"),
        others=others,
        split=split,
        baseline=baseline,
        places=Places.of(jobs, ray),
        progress=progress,
    )
    return Result(figures=figures, table=by_labels.short_table(figures), lines=figures["answer"])
