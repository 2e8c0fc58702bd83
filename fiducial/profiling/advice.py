"""What to do about a profile, in sentences: a few rules, each with the figures that made it speak."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from fiducial.profiling.parts import Layer, Profile

DENSE_SHARE = 0.4  # of the whole, from which on a few convolutions are worth being replaced
FEW = 4
SMALL_MS = 0.1  # a module below spends about as long being called as working, in eager torch
SMALL_SHARE = 0.5
DECODE_SHARE = 0.15
FAR_FROM_PEAK, NEAR_PEAK = 0.6, 0.7


def advice(profile: Profile) -> list[str]:
    """The most useful first; never empty."""
    found = [_dense(profile), _elsewhere(profile), _decode(profile), _near_peak(profile)]
    return [line for line in found if line] or [_slowest(profile)]


def wants_another_runtime(profile: Profile) -> bool:
    """Whether torch leaves so much of the machine unused that another runtime is worth asking."""
    return profile.runtime == "torch" and profile.of_peak < FAR_FROM_PEAK


def _dense(profile: Profile) -> str:
    """A few dense convolutions that hold much of the time."""
    dense = sorted((layer for layer in profile.layers if _is_dense(layer)), key=lambda layer: -layer.ms)[:FEW]
    shares = list(accumulate(layer.ms / profile.whole_ms for layer in dense))
    count = next((i + 1 for i, share in enumerate(shares) if share >= DENSE_SHARE), 0)
    # Once it is worth it, all that adds a tenth more.
    while 0 < count < len(dense) and dense[count].ms / profile.whole_ms >= 0.1:
        count += 1
    if not count:
        return ""
    chosen = dense[:count]
    kernel = "x".join(map(str, chosen[0].weight[-2:]))
    kinds = "transposed convolution" if _is_transposed(chosen[0]) else "convolution"
    macs, separable = sum(layer.macs for layer in chosen), sum(separable_macs(layer) for layer in chosen)
    names = ", ".join(layer.name for layer in chosen)
    number = ("one", "two", "three", "four")[count - 1]
    what = f"{number} {kernel} {kinds}{'s' if count > 1 else ''}" if _alike(chosen) else f"{number} convolutions"
    return (
        f"{shares[count - 1]:.0%} of the time is in {what} ({names}): depthwise-separable ones would need "
        f"{macs / separable:.1f} times fewer multiply-adds there"
    )


def separable_macs(layer: Layer) -> int:
    """Of a depthwise convolution and a 1x1 in the place of a dense one of k x k: of k*k*c each, k*k + c."""
    area, channels = layer.weight[-1] * layer.weight[-2], min(layer.weight[:2])
    return layer.macs * (area + channels) // (area * channels)


def _is_dense(layer: Layer) -> bool:
    """A two-dimensional convolution of 3x3 or more that sums over many channels."""
    return layer.macs > 0 and len(layer.weight) == 4 and min(layer.weight[2:]) >= 3 and min(layer.weight[:2]) >= 8


def _is_transposed(layer: Layer) -> bool:
    return any(word in layer.kind.lower() for word in ("transpose", "deconvolution"))


def _alike(layers: Sequence[Layer]) -> bool:
    return len({(layer.kind, layer.weight[-2:]) for layer in layers}) == 1


def _elsewhere(profile: Profile) -> str:
    """torch far from the peak: by calling many small modules, or for want of faster kernels."""
    if not wants_another_runtime(profile):
        return ""
    where = " and ".join(f"{name}, where it takes {ms:.2f} ms" for name, ms in profile.elsewhere_ms)
    use = f"use {where}" if where else "other runtimes fuse modules and need less (`fiducial export`)"
    small = [layer.ms for layer in profile.layers if layer.ms < SMALL_MS]
    share = sum(small) / profile.whole_ms
    why = ""
    if share >= SMALL_SHARE:
        why = f"{share:.0%} of it in {len(small)} modules of less than {SMALL_MS} ms each, most of that the calling, "
    return f"torch takes {profile.whole_ms:.2f} ms, {why}at {profile.of_peak:.0%} of the peak: {use}"


def _decode(profile: Profile) -> str:
    share = sum(layer.ms for layer in profile.layers if layer.path == "decode") / profile.whole_ms
    if share < DECODE_SHARE:
        return ""
    return f"{share:.0%} of the time is the decode: a method that reads points off quicker (--method), or fewer points"


def _near_peak(profile: Profile) -> str:
    if profile.of_peak < NEAR_PEAK:
        return ""
    return (
        f"the whole reaches {profile.of_peak:.0%} of this machine's fp32 peak of {profile.machine.gflops:.0f} GFLOP/s: "
        "faster only by fewer multiply-adds, or in bf16 or int8"
    )


def _slowest(profile: Profile) -> str:
    """Where no rule speaks."""
    slowest = max(profile.layers, key=lambda layer: layer.ms)
    return (
        f"no part stands out: the slowest, {slowest.name}, takes {slowest.ms / profile.whole_ms:.0%} of the time; the whole "
        f"reaches {profile.of_peak:.0%} of the peak"
    )
