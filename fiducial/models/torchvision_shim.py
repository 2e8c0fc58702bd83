"""timm and lightning import torchvision, whose wheel is a CUDA build: beside a CPU torch its import raises.

`python -m fiducial.models.torchvision_shim` mends that for all programs of a virtual environment (`make` does so)."""

from __future__ import annotations

import sysconfig
from pathlib import Path

NAME = "torchvision_operators"
# Its operators' schemas are all that importing torchvision needs; where they are missing, so is what would compute them.
DEFINE = """
import pathlib
import torch
packages = pathlib.Path(torch.__file__).parents[1]
if torch.version.cuda is None and "+cu" in (packages / "torchvision" / "version.py").read_text():
    library = torch.library.Library("torchvision", "FRAGMENT")  # keeps the schemas alive
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
# Python reads it when it starts: torch is imported only once somebody asks for torchvision.
HOOK = (
    "import sys; sys.meta_path.insert(0, type('TorchvisionOperators', (), {'find_spec': staticmethod(lambda name, *_: "
    f"__import__('{NAME}') and None if name == 'torchvision' else None)}}))\n"
)

_defined: dict[str, object] = {}


def ensure_torchvision() -> None:
    """Call before importing timm, lightning or torchmetrics. The real library is tried first; where its operators
    are missing, their schemas are defined (we call none of them)."""
    import sys

    if _defined or not is_broken():
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    exec(DEFINE, _defined)


def is_broken() -> bool:
    """Tells whether torchvision is there and can't be imported."""
    import torch  # noqa: F401  # its own faults are not torchvision's

    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return False
    except RuntimeError:
        return True
    return False


def mend(folder: Path) -> None:
    """Writes into a folder of packages what defines the operators when torchvision is imported, by any program."""
    (folder / f"{NAME}.py").write_text(DEFINE, encoding="utf-8")
    (folder / f"{NAME}.pth").write_text(HOOK, encoding="utf-8")


if __name__ == "__main__" and is_broken():
    mend(Path(sysconfig.get_paths()["purelib"]))
