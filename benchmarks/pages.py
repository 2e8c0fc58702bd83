"""Makes every page that Fiducial writes, and screenshots of them, to be looked at before a change of `report/` lands.

    python benchmarks/pages.py OUT [--points 5,32,133] [--instances 3,16,3000] [--only evaluate,fit,..]

A page for each number of points and of instances: of made-up predictions ("evaluate": truth and noise, no training) and
of commands on made-up animals (fit, compare, distill, motion, profile; tiny runs). Screenshots at 1280 and 390 px by
Chromium stand in OUT/shots, in slices that a screen shows. Animals are stick figures seen from above, in any direction."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (320, 240)
WIDTHS = (1280, 390)
SLICE = 2600  # px of a screenshot's height
MOST_IMAGES = 60
PLAIN = ["--backbone", "mobilenetv3_small_100", "--size", "64x64", "--pretrained", "no", "--no-preflight"]


def animal(count: int) -> tuple[list[str], list[tuple[int, int]], np.ndarray]:
    """Gives names, edges and places [count, 2] in -1..1: a spine of a third of the points, legs of up to four on each."""
    spine = max(2, count // 8)
    names, edges = [f"spine_{i}" for i in range(spine)], [(i, i + 1) for i in range(spine - 1)]
    xy = [(0.0, y) for y in np.linspace(-0.9, 0.7, spine)]
    limbs = math.ceil((count - spine) / 4)
    for limb in range(limbs):
        side, root = (-1, 1)[limb % 2], (limb // 2) % spine
        for joint in range(min(4, count - len(names))):
            edges.append((root if joint == 0 else len(names) - 1, len(names)))
            names.append(f"{('left', 'right')[limb % 2]}_leg{limb // 2}_joint{joint}")
            reach, lean = 0.22 * (joint + 1), 0.5 * math.sin(limb // 2) * (joint + 1) / 4
            xy.append((side * reach, xy[root][1] + lean + 0.05 * joint))
    return names, edges, np.array(xy)


def write_data(folder: Path, count: int, instances: int, seed: int = 0) -> Path:
    """Writes train, val and test, each of so many instances, unless they are there."""
    if (folder / "annotations" / "test.json").exists():
        return folder
    draw = np.random.default_rng(seed)
    names, edges, template = animal(count)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    category = {"id": 1, "name": f"animal{count}", "keypoints": names, "skeleton": [[a + 1, b + 1] for a, b in edges]}
    for split in ("train", "val", "test"):
        images, labels = [], []
        for i in range(min(instances, MOST_IMAGES)):
            small = draw.integers(90, 200, (12, 16, 3)).astype(np.uint8)
            canvas = cv2.resize(small, SIZE, interpolation=cv2.INTER_CUBIC)
            name = f"{split}_session_2026_{i:05d}_camera_left.jpg"
            for _ in range(instances // MOST_IMAGES if instances > MOST_IMAGES else 1):
                turn, scale = draw.uniform(0, 2 * math.pi), draw.uniform(45, 80)
                matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
                xy = (template + draw.normal(0, 0.02, template.shape)) @ matrix.T * scale
                xy += (draw.uniform(90, SIZE[0] - 90), draw.uniform(90, SIZE[1] - 90))
                for a, b in edges:
                    start, end = ([int(v) for v in xy[k]] for k in (a, b))
                    cv2.line(canvas, start, end, (40, 30, 35), 3, cv2.LINE_AA)
                for k in range(count):
                    cv2.circle(canvas, [int(v) for v in xy[k]], 3, (80, 60, 30), -1, cv2.LINE_AA)
                seen = np.where(draw.random(count) < 0.95, 2, 0)
                low, high = xy.min(0), xy.max(0)
                labels.append(
                    {
                        "id": len(labels) + 1,
                        "image_id": i,
                        "category_id": 1,
                        "num_keypoints": int((seen > 0).sum()),
                        "keypoints": np.c_[xy * (seen > 0)[:, None], seen].round(2).ravel().tolist(),
                        "bbox": [*low.round(2).tolist(), *(high - low).round(2).tolist()],
                        "iscrowd": 0,
                        "area": float(np.prod(high - low)),
                    }
                )
            cv2.imwrite(str(folder / "images" / name), canvas)
            images.append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        whole = {"images": images, "annotations": labels, "categories": [category]}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(whole))
    return folder


def write_clips(folder: Path, clips: int = 5, frames: int = 8) -> Path:
    """Writes folders of frames in which an animal turns, unless they are there."""
    _, edges, template = animal(12)
    for clip in range(0 if folder.exists() else clips):
        (folder / f"clip_{clip}").mkdir(parents=True)
        for frame in range(frames):
            turn = clip + 0.15 * frame
            matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
            xy = template @ matrix.T * 70 + np.array(SIZE) / 2
            canvas = np.full((SIZE[1], SIZE[0], 3), (120, 150, 120), np.uint8)
            for a, b in edges:
                start, end = ([int(v) for v in xy[k]] for k in (a, b))
                cv2.line(canvas, start, end, (40, 30, 35), 5, cv2.LINE_AA)
            cv2.imwrite(str(folder / f"clip_{clip}" / f"{frame:03d}.png"), canvas)
    return folder


def write_evaluation(data: Path, out: Path) -> Path:
    """Writes the page of a model that finds the truth but for some noise, with a history of 60 epochs."""
    from fiducial import config
    from fiducial.data import annotations
    from fiducial.evaluation import floor, metrics
    from fiducial.evaluation.evaluate import Evaluation
    from fiducial.geometry import Size
    from fiducial.report import detector_report
    from fiducial.types import Keypoints

    draw = np.random.default_rng(1)
    instances, _ = annotations.load(data, "test")
    train, _ = annotations.load(data, "train")
    count = len(instances)
    spread = draw.gamma(1.5, 0.02, (count, 1, 1)) * np.max(instances.box_xywh[:, 2:], 1)[:, None, None]
    xy = (instances.xy + draw.normal(0, 1, instances.xy.shape) * spread).astype(np.float32)
    points = Keypoints(xy, draw.uniform(0.2, 1, xy.shape[:2]).astype(np.float32))
    to_crop = np.broadcast_to(np.eye(3), (count, 3, 3))
    scored = metrics.score(instances, points, to_crop, Size(64, 64))
    evaluation = Evaluation(np.arange(count), instances, points, to_crop, scored, ())
    write_history(out)
    about = detector_report.About({"parameters": 1_234_567, "backbone weights before training": "random"}, "CPU")
    ground = floor.floor_of(instances, train)
    config.write_json(out / "metrics.json", {})
    return detector_report.write(
        out / "report.html", evaluation, about, folder=out, title=out.name, data=str(data), split="test", ground=ground
    )


def write_history(out: Path) -> None:
    """Writes a run's history and recipe, so that its page has curves and settings."""
    from fiducial import config, files
    from fiducial.training.recipe import Recipe

    rows = []
    for epoch in range(60):
        loss = 0.5 * math.exp(-epoch / 12) + 0.02 + 0.01 * math.sin(epoch)
        rows.append({"epoch": epoch, "train/loss": loss, "val/nme": 0.5 * loss + 0.03, "lr": 1e-3, "seconds": 2.0})
    files.write_text(out / "history.csv", files.csv_text(rows))
    files.write_json(out / "recipe.json", {"recipe": config.to_dict(Recipe())})
    files.write_json(out / "model.json", {"metrics": {"epoch": 41}})


def fiducial(*words: Any, log: Path) -> bool:
    """Runs a command, its lines in a log; False where it failed."""
    command = [sys.executable, "-m", "fiducial.cli", *map(str, words)]
    with log.open("w") as file:
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode == 0


def shoot(page: Path, shots: Path, name: str) -> None:
    """Takes pictures of a page at both widths, in slices, dark ground aside."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        for width in WIDTHS:
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            driver.get(page.resolve().as_uri())
            height = driver.execute_script("return document.documentElement.scrollHeight")
            wide = driver.execute_script("return document.documentElement.scrollWidth")
            if wide > width:
                print(f"{name}: {wide} px wide at {width}", file=sys.stderr)
            for i, top in enumerate(range(0, height, SLICE)):
                clip = {"x": 0, "y": top, "width": width, "height": min(SLICE, height - top), "scale": 1}
                shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
                import base64

                (shots / f"{name}-{width}-{i}.png").write_bytes(base64.b64decode(shot["data"]))
    finally:
        driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes every page, and screenshots of them.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--points", default="5,32,133")
    parser.add_argument("--instances", default="3,16,3000")
    parser.add_argument("--only", default="evaluate,fit,compare,distill,motion,profile")
    asked = parser.parse_args()
    out, only = asked.out, asked.only.split(",")
    shots = out / "shots"
    shots.mkdir(parents=True, exist_ok=True)
    pages: dict[str, Path] = {}
    for count in map(int, asked.points.split(",")):
        for instances in map(int, asked.instances.split(",")):
            of = f"{count}p-{instances}i"
            data = write_data(out / "data" / of, count, instances)
            if "evaluate" in only:
                pages[f"evaluate-{of}"] = write_evaluation(data, out / f"evaluate-{of}")
            epochs = ["--epochs", "1" if instances > 100 else "3", "--batch-size", "16", *PLAIN]
            run = out / f"fit-{of}"
            if "fit" in only and (
                run.exists() or fiducial("fit", data, "--out", run, *epochs, log=out / f"fit-{of}.log")
            ):
                pages[f"fit-{of}"] = run / "report.html"
            for command, words in {
                "compare": [
                    data,
                    "--methods",
                    "heatmap,deeppose,simcc",
                    "--seeds",
                    "2",
                    *epochs[:4],
                    "--backbones",
                    "mobilenetv3_small_100",
                    "--sizes",
                    "64x64",
                    "--pretrained",
                    "no",
                ],
                "distill": ["--teacher", run, data, "--student", "squeeze_unet", *epochs[:4]],
                "profile": [run],
            }.items():
                target = out / f"{command}-{of}"
                page = target / "report.html"
                if command in only and not page.exists():
                    where = ["--out", page if command == "profile" else target]
                    fiducial(command, *words, *where, log=out / f"{command}-{of}.log")
                if page.exists():
                    pages[f"{command}-{of}"] = page
        run = out / f"motion-{count}p"
        if "motion" in only and count < 100:
            words = [
                "--method",
                "motion",
                "--epochs",
                "1",
                "--size",
                "64x64",
                "--batch-size",
                "4",
                "--set=motion.pairs=20",
            ]
            clips = write_clips(out / "clips")
            if run.exists() or fiducial(
                "fit", clips, "--out", run, *words, f"--set=motion.points={count}", log=out / "motion.log"
            ):
                pages[f"motion-{count}p"] = run / "report.html"
    for name, page in pages.items():
        if name.split("-")[0] in only:
            shoot(page, shots, name)


if __name__ == "__main__":
    main()
