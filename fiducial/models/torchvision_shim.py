"""timm and lightning import torchvision, whose wheel is a CUDA build: beside a CPU torch its import raises."""

from __future__ import annotations

_library = None  # keeps the schemas alive


def ensure_torchvision() -> None:
    """Call before importing timm, lightning or torchmetrics. The real library is tried first; where its operators
    are missing, their schemas are defined, which is all that importing needs (we call none of them)."""
    global _library  # noqa: PLW0603
    if _library is not None:
        return
    import sys

    import torch

    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _library = torch.library.Library("torchvision", "FRAGMENT")
        _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
