"""What a profile is made of: layers with their times, and the machine that they ran on."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One row of time that is not divided further: a module's own code, or an operator of another runtime."""

    # Of the module that it belongs to: backbone.blocks.0.conv; normalisation, decode, crop beside the network. "" where
    # the runtime does not say, or where no module asked for it (a change of memory layout).
    path: str
    name: str  # of its own; a module's is its path
    kind: str  # class of the module, or type of the operator
    ms: float  # of one crop, without what is inside other layers
    input: Shape = ()  # the first tensor's, batch of one included
    output: Shape = ()
    parameters: int = 0
    macs: int = 0  # multiply-adds of convolutions and matrix products; all else counts as none
    output_bytes: int = 0  # of what it writes anew: 0 for what is changed in place
    weight: Shape = ()  # of a convolution or product, as the runtime keeps it


@dataclass(frozen=True)
class Machine:
    """What this machine can do at best, measured."""

    processor: str
    threads: int
    gflops: float  # 1e9 operations a second in fp32, two for each multiply-add
    stream_gb_per_s: float  # one thread, reading and writing added

    def floor_ms(self, macs: int) -> float:
        """The time of so many multiply-adds at the peak."""
        return 2 * macs / self.gflops / 1e6


@dataclass(frozen=True)
class Measured:
    """What a runtime's file found: the whole without instruments, and its parts with them."""

    whole_ms: float
    layers: tuple[Layer, ...]
    how: str  # how the parts were timed, and what was taken off for the timing itself


@dataclass(frozen=True)
class Profile:
    """Where the time of one crop goes: uint8 in, Keypoints out."""

    model: str
    runtime: str
    threads: int
    size: str  # WxH px of the crop
    precision: str
    whole_ms: float
    layers: tuple[Layer, ...]
    machine: Machine
    how: str
    memory_bytes: int | None = None  # the most that a process with the model needs above one without it
    # The same model as a whole in other runtimes, where that was worth asking.
    elsewhere_ms: tuple[tuple[str, float], ...] = ()

    @property
    def rest_ms(self) -> float:
        """What the whole takes beyond its layers: the runtime between operators, Python. Below zero where the layers
        came out too slow."""
        return self.whole_ms - sum(layer.ms for layer in self.layers)

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def of_peak(self) -> float:
        """The share of the machine's peak that the whole reaches."""
        return self.machine.floor_ms(self.macs) / self.whole_ms
