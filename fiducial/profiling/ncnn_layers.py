"""Where ncnn spends a crop's time, layer by layer: it has no profile of its own, so each layer's result is asked for in turn,
which runs that layer alone.

Asking again for what is there already shows what the asking takes; that is taken off. Crops become planes, and raw output
points, outside of ncnn: two rows more."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fiducial.card import Normalization
from fiducial.profiling import timing
from fiducial.profiling.parts import Layer, Measured, Shape
from fiducial.profiling.timing import Clock, midmean
from fiducial.runtime.cost_worker import noise
from fiducial.runtime.runtimes import ncnn_runtime
from fiducial.runtime.runtimes.ncnn_runtime import NcnnNetwork

AS_IT_IS = 1  # of extract: no change to the order in which people read it
WEIGHTS = {
    "Convolution": 6,
    "ConvolutionDepthWise": 6,
    "Deconvolution": 6,
    "DeconvolutionDepthWise": 6,
    "InnerProduct": 2,
}


def measure(network: NcnnNetwork, threads: int, seconds: float) -> Measured:
    """`threads` are those that the network was loaded with."""
    size = network.card.spec.size
    crop = noise(size.h, size.w)
    layers = network.net.layers()
    shapes: dict[int, Shape] = {}

    def asked() -> list[tuple[float, float]]:
        return _run_layer_by_layer(network, layers, crop, shapes, clock)

    clock = timing.clock_for(threads)
    whole, runs = timing.in_turns(lambda: network.predict(crop), asked, seconds, clock=clock)
    columns = [list(zip(*column, strict=True)) for column in zip(*runs, strict=True)]
    asking = [midmean(again) for _, again in columns]
    times, _ = timing.without_instruments([midmean(first) for first, _ in columns], asking, whole)
    settings = settings_of(network.path)
    rows = [
        Layer("normalisation", "normalisation", "normalisation", times[0], output=shapes[layers[0].tops[0]]),
        *(_layer(layer, ms, shapes, settings) for layer, ms in zip(layers[1:], times[1:-1], strict=True)),
        Layer("decode", "decode", "decode", times[-1]),
    ]
    how = "each layer's result asked for in turn, the asking taken off; the whole at once"
    return Measured(whole, tuple(rows), how)


def settings_of(param: Path) -> dict[str, dict[int, str]]:
    """The numbered settings of each layer: after two lines, `type name inputs outputs blobs.. number=value..` each."""
    found = {}
    for line in param.read_text(encoding="utf-8").splitlines()[2:]:
        words = line.split()
        pairs = [word.partition("=") for word in words if "=" in word]
        found[words[1]] = {int(number): value for number, _, value in pairs if number.lstrip("-").isdigit()}
    return found


def _run_layer_by_layer(
    network: NcnnNetwork, layers: Any, crop: np.ndarray, shapes: dict[int, Shape], clock: Clock
) -> list[tuple[float, float]]:
    """ms of the normalisation, of each layer behind the input, and of the decode; each with those of asking alone."""
    ncnn = ncnn_runtime.library()
    normalization = network.card.spec.normalization or Normalization()
    start = clock()
    planes = ncnn.Mat.from_pixels(crop[0], ncnn.Mat.PixelType.PIXEL_RGB, crop.shape[2], crop.shape[1])
    planes.substract_mean_normalize(list(normalization.mean), [1 / value for value in normalization.std])
    times = [(1e3 * (clock() - start), 0.0)]
    shapes[layers[0].tops[0]] = _shape_of(planes)
    with network.net.create_extractor() as extractor:
        extractor.input("in0", planes)
        for layer in layers[1:]:
            result, again = ncnn.Mat(), ncnn.Mat()
            start = clock()
            extractor.extract(layer.tops[0], result, AS_IT_IS)
            there = clock()
            extractor.extract(layer.tops[0], again, AS_IT_IS)
            times.append((1e3 * (there - start), 1e3 * (clock() - there)))
            shapes[layer.tops[0]] = _shape_of(result)
        start = clock()
        raw = {
            each.name: np.array(extractor.extract(f"out{i}")[1]).reshape(1, *each.shape[1:])
            for i, each in enumerate(network.decode.get_inputs())
        }
        network.decode.run(None, raw)
    return [*times, (1e3 * (clock() - start), 0.0)]


def _layer(layer: Any, ms: float, shapes: dict[int, Shape], settings: dict[str, dict[int, str]]) -> Layer:
    entry = shapes.get(layer.bottoms[0], ()) if layer.bottoms else ()
    output = shapes.get(layer.tops[0], ())
    weights = int(settings.get(layer.name, {}).get(WEIGHTS.get(layer.type, -1), 0))
    return Layer(
        "",
        layer.name,
        layer.type,
        ms,
        entry,
        output,
        weights,
        weights * _places(layer.type, entry, output),
        4 * prod(output),
    )


def _places(kind: str, entry: Shape, output: Shape) -> int:
    """How often each weight is used: at each place of the output, of a transposed convolution of the input."""
    if kind == "InnerProduct":
        return 1
    return prod((entry if kind.startswith("Deconvolution") else output)[2:])


def _shape_of(mat: Any) -> Shape:
    """[1, channels, h, w], [1, h, w] or [1, w], whatever the packing: a stack of `elempack` values lies along the first of
    them."""
    sides = {1: (mat.w,), 2: (mat.h, mat.w), 3: (mat.c, mat.h, mat.w), 4: (mat.c, mat.d, mat.h, mat.w)}[mat.dims]
    return (1, sides[0] * mat.elempack, *sides[1:])
