"""Published checkpoints of the whole system: made of our networks under their names, read back, the same pictures."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from heard import warned

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from fiducial.card import DetectorSpec, Normalization  # noqa: E402
from fiducial.data import skeletons  # noqa: E402
from fiducial.errors import UserError  # noqa: E402
from fiducial.geometry import Size  # noqa: E402
from fiducial.models import checkpoints  # noqa: E402
from fiducial.models import detector as detectors  # noqa: E402
from fiducial.models.detector import Detector  # noqa: E402
from fiducial.models.heads.motion import Frames  # noqa: E402
from fiducial.motion import official  # noqa: E402
from fiducial.motion.dense_motion import DenseMotionSpec  # noqa: E402
from fiducial.motion.generator import Generator, GeneratorSpec  # noqa: E402
from fiducial.types import Skeleton  # noqa: E402

State = dict[str, Tensor]
POINTS = 3
SIZE = Size(128, 128)
SMALL = GeneratorSpec(
    width=4, widest=8, residuals=2, dense_motion=DenseMotionSpec(width=4, blocks=3, widest=16, reduction=2)
)
# Each shows another thing that shapes must tell.
SPECS = {
    "small": SMALL,
    "no widest in sight": GeneratorSpec(8, residuals=1, dense_motion=DenseMotionSpec(width=4, blocks=2)),
    "one halving, no residuals": replace(SMALL, widest=512, downs=1, residuals=0),
    "full resolution, no occlusion": replace(
        SMALL, dense_motion=replace(SMALL.dense_motion, reduction=1, occlusion=False)
    ),
    "none is wider than the first": replace(SMALL, widest=4),
}


def randomised(network: nn.Module, seed: int) -> nn.Module:
    """Weights and statistics, so that nothing that is lost would go unseen."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point() and tensor.ndim:
            tensor.data = torch.rand(tensor.shape, generator=generator) * 0.4 + (0.5 if tensor.ndim == 1 else -0.2)
    return network.eval()


def detector_of(backbone: str = "hourglass_w4_b3_m16_s2", points: int = POINTS, jacobian: str = "own") -> Detector:
    skeleton = Skeleton(f"motion{points}", skeletons.numbered(points))
    normalization = Normalization((0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    spec = DetectorSpec(backbone, "motion", {"jacobian": jacobian}, SIZE, skeleton, normalization)
    detector = detectors.build(spec)
    detector.load_state_dict(randomised(detectors.build(spec), 1).state_dict())  # not the buffers that are computed
    return detector.eval()


def generator_of(spec: GeneratorSpec, points: int = POINTS) -> Generator:
    made = Generator(spec, points)
    made.load_state_dict(randomised(Generator(spec, points), 2).state_dict())
    return made.eval()


def their_detector(detector: Detector, reduction: int) -> State:
    pairs = [
        (r"^backbone\.network\.down\.", "predictor.encoder.down_blocks."),
        (r"^head\.jacobian\.", "jacobian."),
        (r"^backbone\.network\.up\.", "predictor.decoder.up_blocks."),
        (r"^head\.heatmap\.", "kp."),
    ]
    return renamed(detector.state_dict(), pairs) | filter_of("down.weight", reduction)


def their_generator(generator: Generator) -> State:
    inside = r"^dense_motion\.network\."
    pairs = [
        (rf"{inside}down\.", "dense_motion_network.hourglass.encoder.down_blocks."),
        (rf"{inside}up\.", "dense_motion_network.hourglass.decoder.up_blocks."),
        (r"^dense_motion\.", "dense_motion_network."),
        (r"^(down|up)\.", r"\1_blocks."),
        (r"^residuals\.(\d+)\.", r"bottleneck.r\1."),
    ]
    reduction = generator.spec.dense_motion.reduction
    return renamed(generator.state_dict(), pairs) | filter_of("dense_motion_network.down.weight", reduction)


def renamed(state: State, pairs: list[tuple[str, str]]) -> State:
    found = {}
    for name, tensor in state.items():
        pattern, theirs = next((pair for pair in pairs if re.search(pair[0], name)), ("^", ""))
        found[re.sub(pattern, theirs, name)] = tensor.clone()
    return found


def filter_of(name: str, reduction: int) -> State:
    """Theirs is stored; where nothing is reduced there is none."""
    side = 2 * round(4 * (reduction - 1) / 2) + 1
    return {name: torch.rand(3, 1, side, side)} if reduction > 1 else {}


def written(path: Path, detector: State, generator: State, **more: Any) -> Path:
    """As published code saves it, with all that else is in such files."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 2e-4, "params": [0]}]}
    torch.save(
        {
            "generator": generator,
            "discriminator": {"discs.1.conv.weight": torch.zeros(2)},
            "kp_detector": detector,
            "optimizer_generator": optimizer,
            "optimizer_kp_detector": optimizer,
            "epoch": 99,
            **more,
        },
        path,
    )
    return path


def crops(count: int = 2) -> Tensor:
    return torch.randint(
        0, 256, (count, SIZE.h, SIZE.w, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
    )


def load(path: Path) -> tuple[Detector, Generator]:
    with warned("First-Order-Motion model: motion on hourglass_w4_b3_m16_s2, 3 points"):
        return official.load(path)


@pytest.mark.parametrize("name", SPECS)
@torch.no_grad()
def test_a_file_makes_the_pictures_of_the_networks_that_were_saved(name: str, tmp_path: Path) -> None:
    detector, generator = detector_of(), generator_of(SPECS[name])
    path = written(tmp_path / "vox-cpk.pth.tar", their_detector(detector, 2), their_generator(generator))
    loaded, made = load(path)
    assert made.spec == SPECS[name]
    assert not made.training
    assert loaded.spec.size == SIZE
    assert torch.equal(loaded.predict(crops()).xy, detector.predict(crops()).xy)
    source = crops().permute(0, 3, 1, 2) / 255
    of_source, of_driving = (detector.head.frames(detector(picture)) for picture in (crops(), crops().flip(1)))
    assert (of_source.xy_corner - of_driving.xy_corner).abs().max() > 1e-3
    expected, found = (network(source, of_source, of_driving) for network in (generator, made))
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(found.deformed, expected.deformed)
    assert (expected.prediction[0] - expected.prediction[1]).abs().max() > 1e-4


def test_the_detector_alone_is_found_in_the_file_of_the_system(tmp_path: Path) -> None:
    detector = detector_of()
    path = written(tmp_path / "vox.pth.tar", their_detector(detector, 2), their_generator(generator_of(SMALL)))
    plan = checkpoints.plan_of(path)
    assert (plan.method, plan.backbone, plan.size) == ("motion", "hourglass_w4_b3_m16_s2", SIZE)
    loaded, _, report = detectors.load_checkpoint(path)
    assert torch.equal(loaded.predict(crops()).xy, detector.predict(crops()).xy)
    assert "not used: 1 tensors (its filter is computed)" in report


@pytest.mark.parametrize("jacobian", ["shared", "none"])
def test_other_jacobians(jacobian: str, tmp_path: Path) -> None:
    detector = detector_of(jacobian=jacobian)
    path = written(tmp_path / "x.pth.tar", their_detector(detector, 2), their_generator(generator_of(SMALL)))
    loaded, _ = load(path)
    assert loaded.spec.head["jacobian"] == jacobian
    with torch.no_grad():
        expected, found = (network.head.frames(network(crops())) for network in (detector, loaded))
    assert isinstance(found, Frames)
    assert torch.equal(found.xy_corner, expected.xy_corner)
    assert (found.jacobian is None) == (jacobian == "none")


def test_counters_and_prefixes_do_not_matter(tmp_path: Path) -> None:
    """Files of old versions of torch have no counters; copies on several GPUs have `module.` before each name."""
    detector, generator = detector_of(), generator_of(SMALL)
    states = [
        {f"module.{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        for state in (their_detector(detector, 2), their_generator(generator))
    ]
    loaded, made = load(written(tmp_path / "x.pth.tar", *states))
    assert torch.equal(loaded.predict(crops()).xy, detector.predict(crops()).xy)
    ours = generator.state_dict()
    assert all(torch.equal(made.state_dict()[name], ours[name]) for name in ours if "num_batches" not in name)


# --------------------------------------------------------------------------------------------------------- refused


def refusal(path: Path) -> str:
    """What is said of a file that is refused, behind its name."""
    with pytest.raises(UserError) as error:
        official.load(path)
    place, _, words = str(error.value).partition(": ")
    assert Path(place) == path
    return words


def test_a_file_without_a_generator(tmp_path: Path) -> None:
    path = tmp_path / "kp.pth.tar"
    torch.save({"kp_detector": their_detector(detector_of(), 2), "epoch": 3}, path)
    words = "has no generator (it holds kp_detector, epoch), so nothing can be animated; expected a checkpoint"
    assert refusal(path).startswith(words)
    torch.save({"generator": their_generator(generator_of(SMALL))}, path)
    assert refusal(path).startswith("has no kp_detector")
    torch.save(their_detector(detector_of(), 2), path)
    assert refusal(path).startswith("has no generator and no kp_detector")
    torch.save([1, 2], path)
    assert refusal(path).startswith("holds a list; expected the states of networks by name")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first.conv.weight": None}, "no tensor first.conv.weight"),
        ({"final.bias": None}, "1 tensors do not fit the network that the others tell of, first 'final.bias'"),
        ({"extra.weight": torch.zeros(2)}, "first 'extra.weight'"),
        ({"first.conv.weight": torch.zeros(4, 1, 7, 7)}, "images of 1 channels; expected 3"),
        ({"final.bias": torch.tensor([0.0, float("nan"), 0])}, "generator: final.bias holds NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    changed = {**their_generator(generator_of(SMALL)), **change}
    state = {name: tensor for name, tensor in changed.items() if tensor is not None}
    assert words in refusal(written(tmp_path / "x.pth.tar", their_detector(detector_of(), 2), state))


def test_another_count_of_points(tmp_path: Path) -> None:
    path = written(tmp_path / "x.pth.tar", their_detector(detector_of(), 2), their_generator(generator_of(SMALL, 5)))
    assert "finds 3 points and its generator takes 5" in refusal(path)
