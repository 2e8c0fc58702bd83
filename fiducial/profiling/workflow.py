"""`fiducial profile`: a run folder in any runtime, an exported file in its own, or a network of random weights."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from fiducial.card import Card, DetectorSpec
from fiducial.errors import UserError, counted, did_you_mean
from fiducial.log import logger
from fiducial.profiling import advice, machine, timing
from fiducial.profiling.parts import Measured, Profile
from fiducial.runtime import cost, runtime
from fiducial.runtime.cost_worker import noise
from fiducial.runtime.foreign.network import METHOD as FOREIGN
from fiducial.runtime.runtimes import onnx_runtime
from fiducial.types import Skeleton


def profile_model(
    model: Path, name: str | None = None, *, threads: int = 1, seconds: float = 3.0, shown: str = ""
) -> Profile:
    """Of one crop, uint8 in and Keypoints out. `name`: the runtime, None = torch for a run folder, for a file its own; a
    run folder is exported for another one, into a folder that is gone afterwards. Takes `seconds` and some more.
    `shown`: what the model is called [its path]."""
    shown = shown or str(model)
    own = runtime.family_of(model).NAME
    # Refused where it is damaged, before anything is timed.
    if runtime.is_exported(model) and runtime.load(model).card.spec.method == FOREIGN:
        raise UserError(
            model, "is another project's network, whose layers are not profiled; give a run folder or an export"
        )
    name = name or own
    known = {family.NAME: family for family in runtime.families() if getattr(family, "LAYERS", None)}
    if name not in known:
        raise UserError(f"--runtime {name!r}: no such name.{did_you_mean(name, known)}")
    if name != own and runtime.is_exported(model):
        raise UserError(f"--runtime {name}: {model} runs in {own} alone. Give the run folder that it was made from")
    peak = machine.measure(threads)
    with ExitStack() as stack:
        file = model
        if name != own:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            logger.info(f"exporting {shown} for {name}")
            file = exported(model, name, folder)
        logger.info(f"timing {shown} in {name}, {counted(threads, 'thread')}")
        card, precision, found = _measured(file, threads, seconds)
        memory = memory_bytes(file, name)
    profile = Profile(
        shown, name, threads, str(card.spec.size), precision, found.whole_ms, found.layers, peak, found.how, memory
    )
    if advice.wants_another_runtime(profile):
        profile = replace(profile, elsewhere_ms=_in_onnxruntime(model, threads, shown))
    return profile


def profile_random(
    backbone: str | None,
    method: str | None,
    size: str | None,
    points: int,
    name: str | None = None,
    *,
    threads: int = 1,
    seconds: float = 3.0,
) -> Profile:
    """The same for a network that has learnt nothing: times do not depend on what it knows."""
    with tempfile.TemporaryDirectory() as folder:
        model = random_model(Path(folder), backbone, method, size, points)
        return profile_model(model, name, threads=threads, seconds=seconds, shown=model.name)


def random_model(folder: Path, backbone: str | None, method: str | None, size: str | None, points: int) -> Path:
    """A run folder in `folder` with a network that has learnt nothing, for its time; None = the recipe's choice."""
    from fiducial.models import detector as detectors
    from fiducial.training import recipes
    from fiducial.training.recipe import Recipe

    given = {"backbone": backbone, "method": method, "size": size}
    recipe = recipes.changed(Recipe(), {name: value for name, value in given.items() if value is not None}, [])
    skeleton = Skeleton("points", tuple(str(i) for i in range(points)))
    detector = detectors.build(DetectorSpec(recipe.backbone, recipe.method, dict(recipe.head), recipe.size, skeleton))
    path = folder / f"{recipe.method} on {recipe.backbone}, random weights"
    detectors.save(detector, path, Card(detector.spec))
    return path


def memory_bytes(file: Path, name: str) -> int | None:
    """The most that a process of its own needs for it above one that has only the runtime."""
    return cost.measure(file, repeats=2, rounds=1)[name].model_memory_bytes


def exported(model: Path, name: str, folder: Path) -> Path:
    """Makes a run folder's file for a runtime, its crop outside; it is not compared with torch."""
    from fiducial.exporting import export

    family = runtime.named(name)
    if family.TARGET is None:
        raise UserError(f"--runtime {name}: has no exported files; {model} does not run there")
    detector, card = export.load_detector(model)
    return export.write(detector, card, family.TARGET, folder, crop="outside", decode="own").file


def _measured(model: Path, threads: int, seconds: float) -> tuple[Card, str, Measured]:
    """Profiles a run folder in torch, an exported file in its own runtime."""
    # Any: each measuring function takes its own runtime's network.
    network: Any = runtime.opened(model, threads=threads).network
    precision = network.export.precision if runtime.is_exported(model) else "fp32"
    layers = runtime.offered(runtime.family_of(model), "LAYERS")(network, threads, seconds)
    return network.card, precision, layers


def _in_onnxruntime(model: Path, threads: int, shown: str) -> tuple[tuple[str, float], ...]:
    """Times the whole in the base install's runtime, for advice; () where it has no form there."""
    logger.info(f"timing {shown} in {onnx_runtime.NAME}, to compare")
    with tempfile.TemporaryDirectory() as folder:
        try:
            network = runtime.opened(exported(model, onnx_runtime.NAME, Path(folder)), threads=threads).network
        except (UserError, ModuleNotFoundError):
            return ()
        size = network.card.spec.size
        crop = noise(size.h, size.w)
        ms, _ = timing.in_turns(lambda: network.predict(crop), lambda: None, 0.5, clock=timing.clock_for(threads))
        return ((onnx_runtime.TITLE, ms),)
