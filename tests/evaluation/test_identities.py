"""HOTA, IDF1 and MOTA against TrackEval's figures, by hand, and by what must not change them; then of results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiducial.errors import UserError
from fiducial.evaluation import assignment, steadiness
from fiducial.evaluation.identities import Sight, Told, measure
from fiducial.evaluation.predictions import evaluate_results

# TrackEval 1.3.0 on `scene(seed)`: HOTA, DetA and AssA (means over its 19 thresholds), IDF1, MOTA, IDSW, CLR_FN, CLR_FP.
TRACKEVAL = [
    (0.275502, 0.405295, 0.188147, 0.342222, 0.184739, 17, 117, 69),
    (0.261442, 0.410949, 0.167124, 0.323974, 0.212355, 17, 121, 66),
    (0.278176, 0.418265, 0.185389, 0.303030, 0.101504, 16, 130, 93),
    (0.210549, 0.391961, 0.113917, 0.251082, 0.159091, 24, 132, 66),
    (0.279366, 0.404199, 0.193799, 0.367089, 0.136364, 17, 101, 91),
]


def scene(seed: int, frames: int = 60, people: int = 6) -> list[Sight]:
    """Six who come and go, found badly: identities that swap, end and begin, frames without truths or without tracks."""
    random = np.random.default_rng(seed)
    track, following, sights = np.arange(people), people, []
    for _ in range(frames):
        there = np.flatnonzero(random.random(people) > 0.2)
        if random.random() < 0.15:
            i, j = random.choice(people, 2, replace=False)
            track[i], track[j] = track[j], track[i]
        if random.random() < 0.1:
            track[random.integers(people)] = following
            following += 1
        seen = there[random.random(len(there)) > 0.15]
        found, alike = track[seen], random.random((len(there), len(seen))) * 0.4
        for column, who in enumerate(seen):
            alike[np.flatnonzero(there == who)[0], column] = random.uniform(0.3, 1)
        if random.random() < 0.1:
            there, alike = there[:0], alike[:0]
        elif random.random() < 0.1:
            found, alike = found[:0], alike[:, :0]
        sights.append((there, found, alike))
    used = np.unique(np.concatenate([found for _, found, _ in sights]))
    return [Sight(there, np.searchsorted(used, found), alike) for there, found, alike in sights]


def numbers(told: Told) -> tuple[float, ...]:
    return (told.hota, told.deta, told.assa, told.idf1, told.mota, told.id_switches, told.missed, told.extra)


@pytest.mark.parametrize(("seed", "expected"), list(enumerate(TRACKEVAL)))
def test_trackeval_says_the_same(seed: int, expected: tuple[float, ...]) -> None:
    assert numbers(measure(scene(seed))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(5, 15))
def test_trackeval_itself_says_the_same(seed: int) -> None:
    """The library, where it is installed (`make oracles`)."""
    metrics = pytest.importorskip("trackeval.metrics", reason="the oracle is TrackEval")
    sights = scene(seed)
    data = {
        "gt_ids": [one.truth for one in sights],
        "tracker_ids": [one.found for one in sights],
        "similarity_scores": [one.similarity for one in sights],
        "num_gt_ids": 1 + max(int(one.truth.max(initial=-1)) for one in sights),
        "num_tracker_ids": 1 + max(int(one.found.max(initial=-1)) for one in sights),
        "num_gt_dets": sum(len(one.truth) for one in sights),
        "num_tracker_dets": sum(len(one.found) for one in sights),
        "num_timesteps": len(sights),
    }
    silent = {"PRINT_CONFIG": False}
    hota = metrics.HOTA().eval_sequence(data)
    told = {**metrics.Identity(silent).eval_sequence(data), **metrics.CLEAR(silent).eval_sequence(data)}
    means = [float(np.mean(hota[name])) for name in ("HOTA", "DetA", "AssA")]
    counts = [float(told[name]) for name in ("IDF1", "MOTA", "IDSW", "CLR_FN", "CLR_FP")]
    assert numbers(measure(sights)) == pytest.approx((*means, *counts), abs=1e-12)


def test_by_hand() -> None:
    """Two who are found exactly in ten frames and change names after five: each pair is half of either track, 5 / 15."""
    exact = np.eye(2)
    sights = [Sight(np.arange(2), np.arange(2) if frame < 5 else np.array([1, 0]), exact) for frame in range(10)]
    told = measure(sights)
    assert (told.deta, told.assa) == pytest.approx((1, 1 / 3))
    assert told.hota == pytest.approx((1 / 3) ** 0.5)
    assert (told.idf1, told.mota, told.id_switches) == pytest.approx((0.5, 1 - 2 / 20, 2))


def test_names_and_the_order_in_a_frame_do_not_matter() -> None:
    sights, random = scene(7), np.random.default_rng(0)
    names = random.permutation(1 + max(int(one.found.max(initial=0)) for one in sights))
    turned = []
    for one in sights:
        rows, columns = random.permutation(len(one.truth)), random.permutation(len(one.found))
        turned.append(Sight(one.truth[rows], names[one.found[columns]], one.similarity[np.ix_(rows, columns)]))
    assert numbers(measure(turned)) == pytest.approx(numbers(measure(sights)))


def test_nothing_there_and_nothing_found() -> None:
    none, nobody = np.zeros(0, np.int64), np.zeros((0, 0))
    assert np.isnan(measure([]).hota)
    assert np.isnan(measure([Sight(none, none, nobody)]).mota)
    lone = measure([Sight(np.array([0]), none, np.zeros((1, 0)))])
    assert (lone.hota, lone.idf1, lone.mota, lone.missed) == (0, 0, 0, 1)


def test_the_best_pairs_are_those_of_all_permutations() -> None:
    from itertools import permutations

    worth = np.random.default_rng(1).random((5, 5))
    rows, columns = assignment.best_pairs(worth)
    assert worth[rows, columns].sum() == max(sum(worth[range(5), list(each)]) for each in permutations(range(5)))
    assert len(assignment.best_pairs(np.zeros((3, 2)))[0]) == 0  # worth nothing
    assert len(assignment.best_pairs(np.zeros((3, 0)))[0]) == 0


def test_jitter_and_lag() -> None:
    random = np.random.default_rng(2)
    noise = random.normal(0, 0.5, (4000, 3, 2))
    found = steadiness.jitter(noise, np.full(4000, 50.0))
    assert found == pytest.approx(
        {"frame_to_frame": 100 * 0.5 * 2**0.5 / 50, "second_difference": 100 * 0.5 * 6**0.5 / 50}, rel=0.03
    )
    assert np.isnan(steadiness.jitter(noise[:1], np.full(1, 50.0))["frame_to_frame"])
    times = np.arange(200.0)
    way = np.sin(times / 9)[:, None]
    late = np.sin((times - 1.5) / 9)[:, None]
    late[20:40] = np.nan
    shifts = np.arange(0, 4, 0.05)
    assert steadiness.lag(way, late, times, np.ones(200, bool), shifts) == pytest.approx(1.5, abs=0.03)


# -------------------------------------------------------------------------------------------------- results files


def files(folder: Path, change: Any = None, sigmas: bool = True, frames: int = 12) -> tuple[Path, Path]:
    """Two mice side by side in a clip, and results that say the same; `change(truth, results)` spoils them."""
    images, annotations, results = [], [], []
    for frame in range(frames):
        images.append({"id": frame, "file_name": f"clip_{frame:03d}.png", "width": 200, "height": 90})
        for who in (3, 8):
            x, y = 20.0 + 3 * frame + 70 * (who == 8), 30.0
            points, number = [x, y, 2, x + 20, y + 10, 2, x + 5, y + 25, 2], len(annotations) + 1
            about = {"image_id": frame, "category_id": 1, "keypoints": points, "track_id": who}
            annotations.append({"id": number, "bbox": [x - 5, y - 5, 35, 40], "area": 1400.0, **about})
            own = {"keypoints": list(points), "track_id": who + 10, "bbox": [x - 5, y - 5, 35, 40]}
            results.append({"score": 0.9, **about, **own})
    category: dict[str, Any] = {"id": 1, "name": "mouse", "keypoints": ["a", "b", "c"]}
    if sigmas:
        category["sigmas"] = [0.05, 0.05, 0.05]
    truth = {"images": images, "annotations": annotations, "categories": [category]}
    if change is not None:
        change(truth, results)
    for name, content in (("truth", truth), ("results", results)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder / "results.json", folder / "truth.json"


def told(folder: Path, change: Any = None, **options: Any) -> dict[str, Any]:
    return evaluate_results(*files(folder, change, **options))


@pytest.mark.parametrize("sigmas", [True, False])
def test_results_that_say_the_same_are_perfect(tmp_path: Path, sigmas: bool) -> None:
    tracking = told(tmp_path, sigmas=sigmas)["tracking"]
    assert (tracking["hota"], tracking["idf1"], tracking["mota"], tracking["id_switches"]) == (1, 1, 1, 0)
    assert (tracking["frames"], tracking["truth_tracks"], tracking["tracks"]) == (12, 2, 2)
    assert tracking["similarity"] == ("OKS" if sigmas else "box IoU")
    assert (tracking["jitter"], tracking["lag_frames"]) == ({"frame_to_frame": 0, "second_difference": 0}, 0)


def test_names_that_change_places(tmp_path: Path) -> None:
    def swap(_: Any, results: list[dict[str, Any]]) -> None:
        for entry in results:
            if entry["image_id"] >= 6:
                entry["track_id"] = 31 - entry["track_id"]

    tracking = told(tmp_path, swap)["tracking"]
    assert (tracking["id_switches"], tracking["idf1"]) == (2, 0.5)
    assert tracking["hota"] == pytest.approx((1 / 3) ** 0.5)


def test_videos_are_told_apart_by_names_and_frames_by_numbers(tmp_path: Path) -> None:
    """The file lists frames backwards, and its second half is another clip with the same numbers for other mice."""

    def another(truth: Any, results: list[dict[str, Any]]) -> None:
        for image in truth["images"][6:]:
            image["file_name"] = f"other_{image['id']:03d}.png"
        for entry in results:
            if entry["image_id"] >= 6:
                entry["track_id"] = 31 - entry["track_id"]
        truth["images"].reverse()

    tracking = told(tmp_path, another)["tracking"]
    assert (tracking["hota"], tracking["id_switches"], tracking["truth_tracks"]) == (1, 0, 4)


def test_points_that_come_late(tmp_path: Path) -> None:
    def late(_: Any, results: list[dict[str, Any]]) -> None:
        for entry in results:
            for place in (0, 3, 6):
                entry["keypoints"][place] -= 3 * 0.5  # half a frame of motion

    assert told(tmp_path, late)["tracking"]["lag_frames"] == pytest.approx(0.5, abs=0.021)
    assert told(tmp_path, late, sigmas=False)["tracking"]["hota"] == 1


def test_who_does_not_count(tmp_path: Path) -> None:
    """Detections on a crowd or on someone without an identity; without a track_id they count as missed."""

    def change(truth: Any, results: list[dict[str, Any]]) -> None:
        truth["annotations"][-1].pop("track_id")
        truth["annotations"][-2]["iscrowd"] = 1
        del results[0]["track_id"]

    figures = told(tmp_path, change)
    assert (figures["tracking"]["missed"], figures["tracking"]["extra"]) == (1, 0)
    assert any("1 detections have no track_id" in note for note in figures["notes"])


def test_no_figures_without_identities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(truth: Any, results: list[dict[str, Any]]) -> None:
        for entry in truth["annotations"]:
            del entry["track_id"]

    def once(truth: Any, results: list[dict[str, Any]]) -> None:
        for number, entry in enumerate(truth["annotations"]):
            entry["track_id"] = number

    assert "tracking" not in told(tmp_path, nobody)
    figures = told(tmp_path, once)
    assert "tracking" not in figures
    assert any("none of the truth's is in two images" in note for note in figures["notes"])

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(assignment.importlib, "import_module", missing)
    assert any("pip install 'fiducial[tracking]'" in note for note in told(tmp_path)["notes"])
    with pytest.raises(UserError, match="scipy is not installed"):
        assignment.best_pairs(np.ones((2, 2)))


def test_twice_the_same_name_in_a_frame(tmp_path: Path) -> None:
    def twice(_: Any, results: list[dict[str, Any]]) -> None:
        results[1]["track_id"] = results[0]["track_id"]

    figures = told(tmp_path, twice)
    assert figures["tracking"]["missed"] == 1
    assert any("have the identity of another one of their image" in note for note in figures["notes"])
