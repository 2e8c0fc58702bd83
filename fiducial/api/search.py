"""`fiducial.search`: what `fiducial search` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiducial.api.arguments import names_of, optional_path, options_of, path_of, settings_of, source_of
from fiducial.api.results import Result
from fiducial.comparison.places import Places
from fiducial.searching import page, workflow
from fiducial.searching.budget import budget_of


def search(
    data: Any,
    out: Any,
    *,
    budget: str,
    minutes: float = 60.0,
    methods: str | Sequence[str] | None = None,
    backbones: str | Sequence[str] | None = None,
    sizes: str | Sequence[Any] | None = None,
    table: Any = None,
    jobs: int | None = None,
    ray: str | None = None,
    int8: bool = True,
    distill: bool = True,
    batch_size: int | None = None,
    lr: float | str | None = None,
    seed: int | None = None,
    points: Sequence[int] | str | None = None,
    pretrained: str | None = None,
    images: Any = None,
    category: str | None = None,
    progress: bool = False,
    settings: Sequence[str] = (),
    **more: Any,
) -> Result:
    """Finds the best detector within a budget of milliseconds and writes the file that ships; the same call continues.

    Args:
        data: a path that `fiducial fit` takes; out: folder of the search.
        budget: such as "3ms@onnxruntime:1", a crop's milliseconds in a runtime on so many threads; minutes: that all
            may take.
        methods, backbones, sizes: what is thought of, as `fiducial.compare` has them [usual ones].
        table: latencies that `fiducial bench` measured on the device that is meant.
        jobs: runs at a time [1, or one a GPU, or one a machine]; ray: train on the machines of a cluster, "HOST:PORT",
            "auto" or "local".
        int8: networks that keep the budget in int8 alone are thought of, too.
        distill: at the end, where there is time, a larger network teaches the best one.
        The others are those of `fiducial.fit`, for every run.

    `result.figures["winner"]` names the file; `result.table` has a row a network that was trained, `result.lines` the
    answer."""
    asked = workflow.Search(
        data=source_of(data, images, category),
        budget=budget_of(budget),
        minutes=float(minutes),
        methods=names_of(methods),
        backbones=names_of(backbones),
        sizes=names_of(sizes),
        table=optional_path(table, "table"),
        options=options_of(batch_size=batch_size, lr=lr, seed=seed, points=points, pretrained=pretrained),
        settings=tuple(settings_of(more, settings)),
        places=Places.of(jobs, ray),
        int8=int8,
        distill=distill,
    )
    figures = workflow.search(asked, path_of(out, "out"), progress=progress)
    return Result(figures=figures, table=page.short_table(figures), lines=figures["answer"])
