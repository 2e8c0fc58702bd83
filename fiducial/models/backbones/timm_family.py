"""Every network of timm that gives feature maps, up to its last one; layers behind that are not built.

Names are timm's (`resnet18`, `convnext_tiny.in12k_ft_in1k`), or shorter where everybody means the same width
(`mobilenetv3_small`)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from fiducial.errors import UserError
from fiducial.geometry import Size
from fiducial.models import pretrained as weights
from fiducial.models.backbones import _self_calibrated, _untrained
from fiducial.models.contracts import Backbone, Level
from fiducial.models.pretrained import Pretrained

EXAMPLES = (
    "mobilenetv3_small_100",
    "resnet18",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)
ALIASES = {
    "mobilenetv2": "mobilenetv2_100",
    "mobilenetv3_large": "mobilenetv3_large_100",
    "mobilenetv3_small": "mobilenetv3_small_100",
}

ANY_SIZE: tuple[dict[str, bool], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False})


# With what timm has behind the last map and in front of the classifier, a 1x1 convolution of 1280 maps: MMPose's
# networks stand on it.
WHOLE, ENDING = ("mobilenetv2_100",), "_whole"


# What timm has the parts for and not the names, which MMPose's networks stand on: name -> the next of kin, and in what it
# differs. `d` is a deep stem of 32 channels, `e` one of 64.
KIN: dict[str, tuple[str, dict[str, Any]]] = {
    "resnext152_32x4d": ("resnext101_32x4d", {"layers": (3, 8, 36, 3)}),
    "resnest101d": ("resnest101e", {"stem_width": 32}),
    "resnest200d": ("resnest200e", {"stem_width": 32}),
    "resnest269d": ("resnest269e", {"stem_width": 32}),
    "scnet50": ("resnet50", {"block": _self_calibrated.Bottleneck}),
    "scnet101": ("resnet101", {"block": _self_calibrated.Bottleneck}),
}


# A network up to the maps of that many px a cell: `tf_efficientnet_lite0_stride16`.
CUT = re.compile(r"_stride(\d+)$")


def names() -> list[str]:
    """Lists timm's architectures; each may be followed by `.` and the tag of a set of weights, or by `_stride16`."""
    return [*weights.timm_names(), *(f"{name}{ENDING}" for name in WHOLE), *KIN]


def timm_name(name: str) -> str:
    """Translates the aliases above into timm's names; a tag stays."""
    architecture, dot, tag = name.partition(".")
    return ALIASES.get(architecture, architecture) + dot + tag


def matches(name: str) -> bool:
    """Says whether timm knows the architecture and, where one is given, the tag."""
    full = timm_name(CUT.sub("", name))
    return full in names() or full in weights.timm_tagged_names()


def whole_of(name: str) -> str | None:
    """Gives timm's name of a network that is to be taken whole; None where its maps are."""
    stem = name.removesuffix(ENDING)
    return stem if stem in WHOLE and stem != name else None


def build(name: str, pretrained: Pretrained = "here") -> TimmBackbone:
    """Builds the network up to its last map. Raises UserError where timm offers no maps of it."""
    if (whole := whole_of(name)) is not None:
        network, initialization = weights.create(whole, pretrained, num_classes=0, global_pool="")
        return TimmBackbone(Whole(network), whole, initialization)
    if name in KIN:
        _untrained.announce(name, pretrained)
        kin, changes = KIN[name]
        network, initialization = encoder(kin, "no", last_only=True, changes=changes)
        return TimmBackbone(network, kin, initialization)
    cut, full = CUT.search(name), timm_name(CUT.sub("", name))
    network, initialization = encoder(full, pretrained, last_only=True, stride=int(cut[1]) if cut else None)
    return TimmBackbone(network, full, initialization)


def build_levels(name: str, pretrained: Pretrained = "here") -> TimmBackbone:
    """Builds the network with all of its maps, for what must see small things and large ones."""
    if whole_of(name) is not None or name in KIN:
        raise UserError(f"backbone {name!r}: gives one map; expected the plain name of a network of timm")
    cut, full = CUT.search(name), timm_name(CUT.sub("", name))
    network, initialization = encoder(full, pretrained, last_only=False, stride=int(cut[1]) if cut else None)
    return TimmBackbone(network, full, initialization)


class TimmBackbone(Backbone):
    """Turns [b, 3, h, w] into the network's last map, or all."""

    def __init__(self, encoder: Encoder | Whole, name: str, initialization: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.levels = encoder.levels
        self.main = len(encoder.levels) - 1
        self.initialization = initialization
        self.normalization = weights.normalization(name)
        self.licence = weights.licence(name, initialization)

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.encoder(image)


class Whole(nn.Module):
    """Gives what the classifier would be given, [b, c, h / 32, w / 32], of a network of timm without its pooling."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.levels = network, (Level(network.num_features, 32),)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.network.forward_features(image)]


class Encoder(nn.Module):
    """Gives one or all of the maps of a network of timm, fine to coarse, [b, c, h, w] each, as `levels` says."""

    def __init__(self, network: Any, name: str, only_size: Size | None) -> None:
        super().__init__()
        self.network, self.name, self.only_size = network, name, only_size
        info = network.feature_info
        self.levels = tuple(Level(*pair) for pair in zip(info.channels(), info.reduction(), strict=True))
        # Some transformers keep channels last inside and do not say so in their maps.
        self.channels_last = str(getattr(network, "output_fmt", None) or "NCHW").endswith("NHWC")

    def forward(self, image: Tensor) -> list[Tensor]:
        size = Size(image.shape[-1], image.shape[-2])
        if self.only_size is not None and size != self.only_size:
            raise UserError(
                f"backbone {self.name!r} takes pictures of {self.only_size} only, not {size}. Use --size "
                f"{self.only_size} or another backbone"
            )
        maps = self.network(image)
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps] if self.channels_last else maps


def encoder(
    name: str,
    pretrained: Pretrained,
    last_only: bool,
    stride: int | None = None,
    changes: dict[str, Any] | None = None,
) -> tuple[Encoder, str]:
    """Builds the encoder of the last or all maps of a network by timm's name, and says where its weights came from.

    `stride`: the map of so many px a cell is the last one, and layers behind it are not kept. `changes`: settings
    of timm in which it differs from the named one."""
    options: dict[str, Any] = {"features_only": True, **(changes or {})}
    last = -1 if stride is None else _place_of(name, stride)
    if last_only:
        options["out_indices"] = (last,)
    elif stride is not None:
        options["out_indices"] = tuple(range(last + 1))
    cfg = weights.configuration(name)
    only_size = None
    if cfg is not None and cfg.fixed_input_size:
        # Transformers are built for one size of image; most can be told to take any.
        flexible = next((option for option in ANY_SIZE if _buildable(name, options | option)), None)
        only_size = Size(cfg.input_size[2], cfg.input_size[1]) if flexible is None else None
        options |= flexible or {}
    if not _buildable(name, options):
        raise UserError(f"backbone {name!r}: timm gives no feature maps of it. Choose one that has them: resnet18, ..")
    network: Any
    network, initialization = weights.create(name, pretrained, **options)
    if stride is not None and hasattr(network, "_stage_out_idx"):
        del network.blocks[max(network._stage_out_idx) :]  # timm leaves them in place in MobileNet's kin
    return Encoder(network, name, only_size), initialization


def _place_of(name: str, stride: int) -> int:
    """Which of a network's maps has that stride. UserError where none has."""
    with torch.device("meta"):
        strides = weights.timm_library().create_model(name, features_only=True).feature_info.reduction()
    if stride not in strides:
        raise UserError(f"backbone '{name}_stride{stride}': its maps have strides {', '.join(map(str, strides))}")
    return strides.index(stride)


def _buildable(name: str, options: dict[str, Any]) -> bool:
    """Whether timm builds it so, tried without memory or weights; timm says no by whatever goes wrong inside."""
    try:
        with torch.device("meta"):
            weights.timm_library().create_model(name, **options)
    except (TypeError, RuntimeError, AttributeError, AssertionError, KeyError, ValueError):
        return False
    return True
