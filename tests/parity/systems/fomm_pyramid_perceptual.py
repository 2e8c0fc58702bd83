"""The First-Order-Motion model's pyramid and perceptual loss, with the golden's small network in VGG-19's place."""

from __future__ import annotations

from parity.golden import Case, Tolerance
from torch import Tensor

from fiducial.motion.perceptual import Pyramid, RandomFeatures, perceptual_loss

TOLERANCE = {"loss": Tolerance(relative=1e-5), "*": Tolerance(absolute=1e-5)}


def run(case: Case) -> dict[str, Tensor]:
    scales = case.config["scales"]
    real, generated = case.given["real"], case.given["generated"].requires_grad_()
    pyramid = Pyramid(real.shape[1], scales)
    levels = pyramid(real)
    loss = perceptual_loss(stand_in(case.weights), pyramid(generated), levels, case.config["weights"])
    loss.backward()
    assert generated.grad is not None
    found = {f"pyr_real.{scale}": level for scale, level in zip(scales, levels, strict=True)}
    found |= {"loss": loss, "grad": generated.grad}
    return found


def stand_in(weights: dict[str, Tensor]) -> RandomFeatures:
    """The network of the golden's README: our substitute's form, with its widths and weights."""
    count = sum(name.startswith("convs.") and name.endswith(".weight") for name in weights)
    # A pooling before each convolution but the first.
    widths = [width for i in range(count) for width in (0, len(weights[f"convs.{i}.weight"]))][1:]
    network = RandomFeatures(widths=widths)
    kinds = ("weight", "bias")
    # Pooling, convolution and ReLU: each third layer is a convolution.
    network.load_state_dict({f"features.{3 * i}.{k}": weights[f"convs.{i}.{k}"] for i in range(count) for k in kinds})
    return network
