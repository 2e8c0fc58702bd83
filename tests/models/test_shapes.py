"""The shapes in signatures are checked under the hook of conftest.py, and cost nothing without it."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
jaxtyping = pytest.importorskip("jaxtyping")
pytest.importorskip("beartype")
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import heatmaps  # noqa: E402
from fiducial.models.contracts import Level  # noqa: E402
from fiducial.models.heads import heatmap  # noqa: E402

HEAD = heatmap.Head(heatmap.Spec(), Level(6, 16), 5, Size(64, 48)).eval()


@pytest.mark.parametrize(
    ("maps", "xy_grid"),
    [
        (torch.zeros(2, 5, 6, 7), torch.zeros(2, 4, 2)),  # another number of points
        (torch.zeros(2, 5, 6, 7), torch.zeros(3, 5, 2)),  # another batch
        (torch.zeros(2, 5, 6, 7), torch.zeros(2, 5, 3)),  # no pairs
        (torch.zeros(5, 6, 7), torch.zeros(5, 2)),  # no batch
        (torch.zeros(2, 5, 6, 7, dtype=torch.int64), torch.zeros(2, 5, 2)),
    ],
)
def test_wrong_shapes_are_caught(maps, xy_grid):
    with pytest.raises(jaxtyping.TypeCheckError):
        heatmaps.quarter(maps, xy_grid)


def test_what_a_function_returns_is_checked_too(monkeypatch):
    monkeypatch.setattr(heatmap.heatmaps, "spatial_softmax", lambda logits: logits[:, :1])
    with pytest.raises(jaxtyping.TypeCheckError):
        HEAD.heatmaps(torch.zeros(2, 5, 12, 16))


def test_checked_modules_can_be_copied_pickled_and_exported():
    feature = torch.randn(2, 6, 3, 4)
    expected = HEAD(feature)
    assert torch.equal(copy.deepcopy(HEAD)(feature), expected)
    assert torch.equal(pickle.loads(pickle.dumps(HEAD))(feature), expected)
    batch = torch.export.Dim("batch", min=1, max=8)
    exported = torch.export.export(HEAD, (feature,), dynamic_shapes={"feature": {0: batch}}).module()
    more = torch.randn(5, 6, 3, 4)
    torch.testing.assert_close(exported(more), HEAD(more))


def test_models_need_no_checker():
    code = "import sys; sys.modules['beartype'] = None; import fiducial.models.heads.heatmap, fiducial.models.detector"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
