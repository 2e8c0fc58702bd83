"""Makes files of networks with random weights for a runtime, to be timed: latencies do not depend on what they know.

A file is what `fiducial export` would ship, crop and decode inside where the runtime can; it is not compared with torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fiducial.card import Card, DetectorSpec
from fiducial.errors import UserError, one_line
from fiducial.exporting import export
from fiducial.log import logger
from fiducial.models import catalog
from fiducial.models import detector as detectors
from fiducial.models.detector import Detector
from fiducial.progress import progress
from fiducial.runtime import runtime
from fiducial.runtime.export_card import Made as MadeFile
from fiducial.runtime.export_card import Precision
from fiducial.searching import bench
from fiducial.searching.bench import Listing, Made
from fiducial.searching.table import Network
from fiducial.types import Skeleton

CALIBRATED = 4  # crops of noise: times do not depend on ranges


def make(network: Network, runtime_name: str, folder: Path) -> Made:
    """Writes a network's file into a folder of its own in `folder`. What can't be built or exported is the `error`."""
    name = hashlib.sha256(network.key.encode()).hexdigest()[:12]
    skeleton = Skeleton("points", tuple(f"p{i}" for i in range(network.points)))
    target = runtime.named(runtime_name).TARGET
    assert target is not None
    own = folder / name
    own.mkdir(parents=True, exist_ok=True)
    try:
        spec = DetectorSpec(network.backbone, network.method, network.head, network.size, skeleton)
        detector = detectors.build(spec, "no").eval()
        made = _written(detector, network.precision, target, own)
    except (UserError, RuntimeError, MemoryError) as error:  # RuntimeError: torch's own
        return Made(network, error=one_line(str(error).splitlines()[0] if str(error) else type(error).__name__, 200))
    return Made(network, str(made.file.relative_to(folder)))


def _written(detector: Detector, precision: Precision, target: str, folder: Path) -> MadeFile:
    """Writes what `export` would, without a comparison; of int8 with all layers in it, by the ranges of noise."""
    card = Card(detector.spec)
    if precision == "fp32":
        return export.write(detector, card, target, folder, crop="inside", decode="own")
    size = detector.spec.size
    crops = np.random.default_rng(0).integers(0, 256, (CALIBRATED, size.h, size.w, 3), dtype=np.uint8)
    quantizer = runtime.offered(runtime.targets("INT8")[target], "INT8")(
        detector, card, crops, crop="inside", decode="own"
    )
    return quantizer.write(precision, folder, list(quantizer.groups))


def make_folder(networks: Sequence[Network], runtime_name: str, folder: Path, *, bar: bool = False) -> Listing:
    """Makes the files of networks and the folder's list; those that the list has already are kept. UserError for
    a name that there is not."""
    path = folder / bench.LISTING
    made = list(bench.read_listing(folder).networks) if path.is_file() else []
    if path.is_file() and bench.read_listing(folder).runtime != runtime_name:
        raise UserError(folder, "holds files for another runtime; give another folder")
    there = {each.network.key for each in made}
    waiting = [network for network in networks if network.key not in there]
    for network in waiting:
        catalog.check(network.backbone, network.method, network.head)
    with progress("make", len(waiting), "networks", bar=bar) as advance:
        for network in waiting:
            made.append(make(network, runtime_name, folder))
            if made[-1].error:
                logger.warning(f"{network.key}: left out: {made[-1].error}")
            bench.write_listing(folder, Listing(runtime_name, tuple(made)))
            advance(1)
    return Listing(runtime_name, tuple(made))
