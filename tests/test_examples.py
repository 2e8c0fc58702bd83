"""The examples of docstrings are true."""

from __future__ import annotations

import doctest
import textwrap

import pytest

from fiducial import geometry, types

torch = pytest.importorskip("torch")
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import contracts  # noqa: E402
from fiducial.types import Batch  # noqa: E402

IMPORTS = """
from dataclasses import dataclass
import torch
from fiducial import geometry
from fiducial.geometry import Size
from fiducial.models import contracts, flipping, losses, regression
from fiducial.models.contracts import Level
from fiducial.types import Keypoints
"""


@pytest.mark.parametrize("module", [geometry, types], ids=lambda module: module.__name__)
def test_examples_give_what_they_say(module) -> None:
    outcome = doctest.testmod(module)
    assert (outcome.failed, outcome.attempted > 0) == (0, True)


def test_the_smallest_head_is_a_head() -> None:
    text = contracts.Head.__doc__ or ""
    names: dict = {}
    exec(IMPORTS + textwrap.dedent("        " + text[text.index("@dataclass") :]), names)
    head = names["Head"](names["Spec"](), contracts.Level(8, 32), 3, Size(64, 48))
    xy = torch.tensor([[[3.0, 4.0], [60.0, 41.0], [30.0, 20.0]]])
    image = torch.zeros(1, 48, 64, 3, dtype=torch.uint8)
    batch = Batch(image, xy, torch.ones(1, 3), torch.eye(3)[None], torch.zeros(1, dtype=torch.int64))
    torch.testing.assert_close(head.decode(head.encode(batch)).xy, xy)
    assert head.loss(head.encode(batch), batch)["l1"] == 0
    mirrored = geometry.px_to_unit(torch.tensor([[63.0, 0.0]]) + torch.tensor([-1.0, 1.0]) * xy, head.size)
    torch.testing.assert_close(head.unflip(mirrored, torch.arange(3)), head.encode(batch))
    assert head.heatmaps(head(torch.rand(1, 8, 2, 2))) is None
