"""A constant that a case states drives what ours computes: with another one in its `case.json` a golden fails, and with
DARK's blur of another width ours is what OpenCV computes for that width."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import cv2  # noqa: E402
import numpy as np  # noqa: E402
from parity import golden as goldens  # noqa: E402
from parity.systems.codec_msra import BLUR_NAMES  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

OTHER: dict[str, dict[str, Any]] = {
    "affine_topdown": {"padding": 1.5, "input_size": [50, 64]},
    "attention_transfer": {"Tkd": 3.0, "alpha": 0.5, "p": 3},
    "codec_megvii": {"kernel_size": 13, "input_size": [200, 256]},
    "codec_msra": {"blur": 13, "blur_kernel_size": 17, "sigma": 2.5, "input_size": [200, 256]},
    "codec_regression": {"sigma": 1.5, "input_size": [200, 256]},
    "codec_simcc": {"sigma": [4.0, 5.66], "smooth": 0.2, "beta": 100.0},
    "codec_udp": {"blur": 13, "sigma": 1.0, "radius_factor": 0.1, "input_size": [200, 256]},
    "dsntnn": {"sigma": 2.0, "reg_coeff": 0.5},
    "fomm_dense_motion": {"kp_variance": 0.02},
    "fomm_equivariance": {"temperature": 0.2, "w_value": 5.0, "w_jacobian": 5.0},
    "fomm_kp_detector": {"temperature": 0.2, "pad": 3},
    "fomm_pyramid_perceptual": {"weights": [10, 10, 10, 10, 5], "scales": [1, 0.5, 0.25, 0.5]},
    "h3r_codec": {"stride": 2.0},
    "h3r_hrnet_small": {"topk": 4},
    "integral_head": {"js_weight": 0.5, "beta": 0.01},
    "losses_classification": {"beta": 5.0, "label_beta": 5.0, "mask_weight": 0.5, "bce_weight": 3.0},
    "losses_heatmap": {"topk": 2, "loss_weight": 1.0, "awing": {"theta": 0.4}, "focal": {"alpha": 1.0}},
    "losses_regression": {"loss_weight": 2.0, "soft_beta": 0.5},
    "metric_fe_kpacc": {"threshold": 0.7, "distance": 1.0, "sigma": 2.0},
    "metric_keypoint_basic": {
        "thr": 0.1,
        "pckh_thr": 0.2,
        "auc_norm": 20.0,
        "auc_n": 10,
        "eyes": [2, 3],
        "size": 128.0,
    },
    "metric_oks_nms": {"thr": 0.3, "thr2": 0.9, "vis": 0.8, "dist_thr": 0.3},
    "metric_wflw": {"corners": [0, 1], "step": 1e-3},
    "tta_flip": {"input_size": [40, 24], "flip": [0, 1, 2, 3, 4]},
}


def changed(golden: Path, name: str, config: dict[str, Any], place: Path) -> Path:
    """A copy of a golden's folder whose case states other constants."""
    if not (golden / name / "case.json").is_file():
        pytest.skip(f"these goldens have no {name}/case.json")
    folder = place / name
    shutil.copytree(golden / name, folder)
    content = json.loads((folder / "case.json").read_text())
    content["cases"] = content["cases"][:1]
    stated = content["cases"][0]["config"]
    if any(stated.get(field) == value for field, value in config.items()):
        pytest.skip(f"{name} of these goldens states {config} already")
    if config.keys() & set(BLUR_NAMES):
        stated = {field: value for field, value in stated.items() if field not in BLUR_NAMES}
    content["cases"][0]["config"] = stated | config
    (folder / "case.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("name", "constant"), [(name, constant) for name, constants in OTHER.items() for constant in constants]
)
def test_another_constant_is_another_result(golden: Path, tmp_path: Path, name: str, constant: str) -> None:
    outcome = goldens.judge(changed(golden, name, {constant: OTHER[name][constant]}, tmp_path), "case")
    assert outcome.problems, f"{name} takes no notice of {constant}"
    assert not outcome.trace, "it is computed, and compared"


@pytest.mark.parametrize("field", ["blur", "blur_kernel_size"])
@pytest.mark.parametrize("kernel", [9, 13])
def test_dark_by_the_width_that_is_stated(golden: Path, tmp_path: Path, field: str, kernel: int) -> None:
    folder = changed(golden, "codec_msra", {field: kernel}, tmp_path)
    case = goldens.read(folder, "case")
    stride = np.array(case.config["input_size"]) / np.array(case.config["heatmap_size"])
    maps = case.given["pred_pos"].numpy()
    expected = torch.from_numpy(np.stack([dark(values, kernel) for values in maps]) * stride)[None]
    name = "out.unbiased.dec_pred_pos.keypoints"
    tensors = load_file(folder / "case.safetensors")
    assert (tensors[name] - expected).abs().max() > 1e-3, "the width matters"
    shown = ("out.unbiased.dec_roundtrip", "out.unbiased.dec_pred.")  # of the golden's own width
    kept = {key: value for key, value in tensors.items() if not key.startswith(shown)}
    save_file(kept | {name: expected.contiguous()}, folder / "case.safetensors")
    assert goldens.judge(folder, "case").problems == []


def dark(values: np.ndarray, kernel: int) -> np.ndarray:
    """The peak of one map, (x, y) cells, by DARK's eq. 9 and OpenCV's blur, as the golden's README has it."""
    height, width = values.shape
    radius = (kernel - 1) // 2
    blurred = cv2.GaussianBlur(np.pad(values, radius), (kernel, kernel), 0)[radius:-radius, radius:-radius]
    logs = np.log(np.maximum(blurred * (values.max() / blurred.max()), 1e-10)).astype(np.float64)
    y, x = np.unravel_index(values.argmax(), values.shape)
    if not (1 < x < width - 2 and 1 < y < height - 2):
        return np.array([x, y], dtype=np.float64)
    slope = np.array([logs[y, x + 1] - logs[y, x - 1], logs[y + 1, x] - logs[y - 1, x]]) / 2
    mixed = (logs[y + 1, x + 1] - logs[y - 1, x + 1] - logs[y + 1, x - 1] + logs[y - 1, x - 1]) / 4
    along_x = (logs[y, x + 2] - 2 * logs[y, x] + logs[y, x - 2]) / 4
    along_y = (logs[y + 2, x] - 2 * logs[y, x] + logs[y - 2, x]) / 4
    hessian = np.array([[along_x, mixed], [mixed, along_y]])
    return np.array([x, y]) - np.linalg.solve(hessian, slope)
