"""Peak finding against the reference's primitives (golden `refine_primitives`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fiducial.models import heatmaps


@pytest.fixture(scope="module")
def case(golden: Path) -> tuple[dict, dict]:
    folder = golden / "refine_primitives"
    return json.loads((folder / "case.json").read_text())["cases"][0]["config"], load_file(folder / "case.safetensors")


def test_argmax_and_ties(case):
    _, tensors = case
    xy, peak = heatmaps.argmax(tensors["in.maps"][None])
    assert torch.equal(xy[0], tensors["out.max_maps.locs"])
    assert torch.equal(peak[0], tensors["out.max_maps.vals"])
    assert torch.equal(heatmaps.argmax(tensors["in.ties"][None])[0][0], tensors["out.ties_locs"])


def test_quarter(case):
    _, tensors = case
    maps = tensors["in.maps"][None]
    refined = heatmaps.quarter(maps, heatmaps.argmax(maps)[0])
    torch.testing.assert_close(refined[0], tensors["out.refined_quarter"], atol=1e-5, rtol=0)


def test_dark_for_every_kernel_of_the_case(case):
    config, tensors = case
    maps = tensors["in.maps"][None]
    names = [f"out.refined_dark_k{kernel}" for kernel in config["kernels"]]
    assert any(name in tensors for name in names)
    for kernel, name in zip(config["kernels"], names, strict=True):
        if name in tensors:
            refined = heatmaps.dark(maps, heatmaps.argmax(maps)[0], kernel)
            torch.testing.assert_close(refined[0].double(), tensors[name], atol=1e-4, rtol=0)


def test_blur_with_opencvs_automatic_sigma(case):
    config, tensors = case
    index = tensors["out.blur_index"]
    for kernel in config["kernels"]:
        blurred = heatmaps._modulated(tensors["in.maps"][None], kernel)[0, index]
        torch.testing.assert_close(blurred, tensors[f"out.blur{kernel}"], atol=1e-5, rtol=0)
