"""One exported model on the pictures of a certificate: `python -m fiducial.export.certificate_worker FILE FOLDER`.

FOLDER/task.json lists picture files and boxes; the points go to FOLDER/answers.npz, the runtime's version to stdout. Where
the file has its crop inside, that is what runs; the package's crop must give the same, else this fails."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import cast

import numpy as np

from fiducial.data.images import read_image
from fiducial.runtime import runtime
from fiducial.runtime.runtime import Exported

# Two crops equal to the byte leave only what a network makes of one picture alone and in a batch.
SAME_PX = 0.05


def main() -> None:
    file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    run = runtime.load(file, threads=1)
    network = cast(Exported, run.network)
    answers = {}
    for i, case in enumerate(json.loads((folder / "task.json").read_text())):
        for j, (path, given) in enumerate(zip(case["files"], case["boxes"], strict=True)):
            picture, boxes = read_image(Path(path)), None if given is None else np.array(given, np.float32)
            outside = run(picture, boxes)
            inside = network.full(picture, boxes)
            off = 0.0 if inside is None else float(np.abs(inside.xy - outside.xy).max())
            if network.export.precision == "fp32" and not off <= SAME_PX:
                sys.exit(f"the crop in the file and the package's differ by {off:.3g} px on picture {j} of case {i}")
            found = outside if inside is None else inside
            answers |= {f"{i}_{j}_xy": found.xy, f"{i}_{j}_score": found.score}
    np.savez(folder / "answers.npz", **answers)
    print(json.dumps({"version": metadata.version(run.network.runtime), "without_torch": "torch" not in sys.modules}))


if __name__ == "__main__":
    main()
