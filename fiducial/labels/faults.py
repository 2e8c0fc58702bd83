"""`fiducial data check`: what is likely wrong in a labelled set, as findings, a page with proofs, and mended where that is
certain."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial import folders
from fiducial.api.arguments import optional_path, source_of
from fiducial.api.results import Result
from fiducial.checks import run
from fiducial.checks.run import Checked
from fiducial.data.source import Source
from fiducial.labels import check_page, mending, reading
from fiducial.labels.deep import deep_findings
from fiducial.labels.unseen import MINUTES, look
from fiducial.log import logger


def check(
    data: Any,
    *,
    images: Any = None,
    category: str | None = None,
    report: Any = None,
    fix: Any = None,
    deep: Any = None,
    minutes: float = MINUTES,
    progress: bool = False,
    **choices: Any,
) -> Result:
    """Checks a labelled set, without a model where `deep` is not asked for; nothing of it is changed.

    `result.figures["findings"]` lists what was found, the surest first, as `--json` writes it (docs/check.md).
    deep: a folder for three models, each of a third of the images, that judge the labels which they have not seen, in
    `minutes` (with the arguments of `fiducial.fit` in `choices`); what they contradict is told as well.
    report: where to write a page with pictures of what was found; fix: a folder, not there or empty, for a corrected set in
    COCO's form beside a log of what was done, where a repair is certain."""
    source = source_of(data, images, category)
    page, corrected = optional_path(report, "report"), optional_path(fix, "fix")
    if page is not None:
        import jinja2  # noqa: F401  said before anything is looked at
    checked = run.check(source)
    if (models := optional_path(deep, "deep")) is not None:
        checked = _deepened(checked, source, models, minutes, progress, choices)
    for problem in checked.problems:
        logger.warning(str(problem))
    written: dict[str, str] = {}
    if page is not None:
        written["report"] = str(check_page.write(page, checked, str(source)))
    if corrected is not None:
        written |= mending.write(corrected, checked.findings, source)
    return Result(figures={**_figures(checked, source), "files": written}, lines=_lines(checked))


def _deepened(
    checked: Checked, source: Source, models: Path, minutes: float, progress: bool, choices: dict[str, Any]
) -> Checked:
    """Adds what models find that have not seen the labels; what was found without them is told once."""
    with folders.alone(models):
        unseen = look(
            checked.splits, models, label_files=reading.files_of(source), minutes=minutes, progress=progress, **choices
        )
    told = {(one.kind, one.split, one.image, one.annotation_id) for one in checked.findings}
    found = [
        one
        for one in deep_findings(checked.splits, unseen)
        if (one.kind, one.split, one.image, one.annotation_id) not in told
    ]
    return replace(checked, findings=run.ranked([*checked.findings, *found]))


def _figures(checked: Checked, source: Source) -> dict[str, Any]:
    first = checked.splits.first if checked.splits.splits else None
    return {
        "data": str(source),
        "splits": {split: len(part) for split, part in checked.splits.instances},
        "points": [] if first is None else list(first.skeleton.points),
        "counts": dict(Counter(finding.kind for finding in checked.faults)),
        "findings": [finding.as_json() for finding in checked.findings],
        "problems": [str(problem) for problem in checked.problems if not problem.is_note],
        "notes": [str(problem) for problem in checked.problems if problem.is_note],
    }


def _lines(checked: Checked, most: int = 20) -> list[str]:
    """Says what was found: a line a kind, and one for each of the surest."""
    total = sum(len(part) for _, part in checked.splits.instances)
    faults = checked.faults
    counts = Counter(finding.kind for finding in faults)
    lines = [
        f"{total} instances: "
        + (", ".join(f"{count} {kind}" for kind, count in counts.most_common()) if counts else "nothing found")
    ]
    for finding in checked.findings[:most]:
        where = " ".join(filter(None, [finding.split, finding.image and Path(finding.image).name]))
        number = "" if finding.annotation_id is None else f" annotation {finding.annotation_id}"
        points = f" {', '.join(finding.points[:3])}{', ..' * (len(finding.points) > 3)}" if finding.points else ""
        lines.append(f"{finding.confidence:.2f} {finding.kind}: {where}{number}{points}: {finding.what}")
    if len(checked.findings) > most:
        lines.append(f"and {len(checked.findings) - most} more: --json FILE has all, --report FILE.html shows them")
    return lines
