"""Makes every page that Fiducial writes, and screenshots of them, to be looked at before a change of `report/` lands.

    python benchmarks/pages.py OUT [--points 5,32,133] [--instances 3,16,3000] [--only evaluate,fit,..] [--fresh]

A page for each number of points and of instances: of made-up predictions ("evaluate": truth and noise, no training) and
of commands on made-up animals (fit, compare, distill, profile, serve, motion; tiny runs, one fit for all that need a run).
Screenshots at 1280 and 390 px by Chromium stand in OUT/shots, in slices that a screen shows; what a program can tell to be
wrong is a line: a page wider than the screen, text that is cut off or hardly darker than its ground, images without
words, headings that skip a level. Animals are stick figures seen from above, in any direction."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from fiducial.types import Skeleton

SIZE = (320, 240)
WIDTHS = (1280, 390)
SLICE = 2600  # px of a screenshot's height
MOST_IMAGES = 60
FAULTS = r"""
const faults = [], root = document.documentElement;
const rgb = colour => {
  const parts = (colour.match(/[\d.]+/g) || []).map(Number);
  return colour.startsWith('color(') ? parts.map((part, i) => i < 3 ? 255 * part : part) : parts;
};
const light = parts => {
  const [r, g, b] = parts.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
const ground = element => {
  if (!element) return [255, 255, 255];
  const [r, g, b, cover = 1] = rgb(getComputedStyle(element).backgroundColor);
  const behind = cover < 1 ? ground(element.parentElement) : [0, 0, 0];
  return [r, g, b].map((part, i) => cover * part + (1 - cover) * behind[i]);
};
if (root.scrollWidth > root.clientWidth) faults.push(`${root.scrollWidth} px wide`);
let level = 0;
for (const heading of document.querySelectorAll('h1,h2,h3,h4')) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) faults.push(`h${level} is followed by h${next} "${heading.textContent}"`);
  level = next;
}
for (const image of document.querySelectorAll('img')) if (!image.alt) faults.push('an image without words');
for (const drawing of document.querySelectorAll('svg'))
  if (!drawing.getAttribute('aria-label') && !drawing.closest('[aria-hidden=true],button')) faults.push('a drawing without words');
for (const text of document.querySelectorAll('svg text')) {
  const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
  if (box.width && (box.left < frame.left - 1 || box.right > frame.right + 1)) faults.push(`cut in a chart: "${text.textContent}"`);
}
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const box = element.getBoundingClientRect();
  if (!own || !box.width || element.closest('svg')) continue;
  const style = getComputedStyle(element);
  if (box.right > root.clientWidth + 1 && !element.closest('.scroll,.wide figure,[data-scrolls]'))
    faults.push(`beyond the screen: "${element.textContent.trim().slice(0, 40)}"`);
  if (style.overflow === 'hidden' && element.scrollWidth > element.clientWidth + 1)
    faults.push(`cut off: "${element.textContent.trim().slice(0, 40)}"`);
  const [high, low] = [light(rgb(style.color)), light(ground(element))].sort((a, b) => b - a);
  if ((high + .05) / (low + .05) < 4.5 && !element.matches(':disabled'))
    faults.push(`contrast ${((high + .05) / (low + .05)).toFixed(1)}: "${element.textContent.trim().slice(0, 40)}"`);
  if (parseFloat(style.fontSize) < 11) faults.push(`text of ${style.fontSize}: "${element.textContent.trim().slice(0, 40)}"`);
}
return [...new Set(faults)].slice(0, 20);
"""
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
    write_history(out, instances.skeleton)
    about = detector_report.About({"parameters": 1_234_567, "backbone weights before training": "random"}, "CPU")
    ground = floor.floor_of(instances, train)
    config.write_json(out / "metrics.json", {})
    return detector_report.write(
        out / "report.html", evaluation, about, folder=out, title=out.name, data=str(data), split="test", ground=ground
    )


def write_history(out: Path, skeleton: Skeleton) -> None:
    """Writes a run's history, recipe and card, so that its page has curves and settings."""
    from fiducial import config, files
    from fiducial.card import Card, DetectorSpec
    from fiducial.training.recipe import Recipe

    recipe, rows = Recipe(), []
    for epoch in range(60):
        loss = 0.5 * math.exp(-epoch / 12) + 0.02 + 0.01 * math.sin(epoch)
        rows.append({"epoch": epoch, "train/loss": loss, "val/nme": 0.5 * loss + 0.03, "lr": 1e-3, "seconds": 2.0})
    files.write_text(out / "history.csv", files.csv_text(rows))
    files.write_json(out / "recipe.json", {"recipe": config.to_dict(recipe)})
    spec = DetectorSpec(recipe.backbone, recipe.method, recipe.head, recipe.size, skeleton)
    config.write_json(out / "model.json", Card(spec, metrics={"epoch": 41}))


def fiducial(*words: Any, log: Path) -> bool:
    """Runs a command, its lines in a log; False, with the log's last line, where it failed."""
    command = [sys.executable, "-m", "fiducial.cli", *map(str, words)]
    with log.open("w") as file:
        code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        print(f"{log.stem}: {log.read_text().strip().splitlines()[-1]}", file=sys.stderr)
    return code == 0


def commands_of(data: Path, run: Path, instances: int) -> dict[str, list[Any]]:
    """Gives what follows the name of each command whose page is made of the same data and run."""
    short = ["--epochs", "1" if instances > 100 else "3", "--batch-size", "16"]
    compared = ["--methods", "heatmap,deeppose,simcc", "--seeds", "1" if instances > 100 else "2"]
    return {
        "fit": [data, *short, *PLAIN],
        "compare": [data, *compared, *short, "--backbones", PLAIN[1], "--sizes", PLAIN[3], "--pretrained", "no"],
        "distill": ["--teacher", run, data, "--student", "squeeze_unet", *short],
        "profile": [run],
    }


def make_pages(out: Path, count: int, instances: int, only: Sequence[str]) -> dict[str, Path]:
    """Makes the pages of one number of points and of instances, those that are not there yet; name -> page."""
    cell = f"{count}p-{instances}i"
    data, run = write_data(out / "data" / cell, count, instances), out / f"fit-{cell}"
    pages: dict[str, Path] = {}
    if "evaluate" in only:
        pages[f"evaluate-{cell}"] = write_evaluation(data, out / f"evaluate-{cell}")
    for command, words in commands_of(data, run, instances).items():
        target = out / f"{command}-{cell}"
        page = target / "report.html"
        needed = command in only or (command == "fit" and {"distill", "profile", "serve"} & set(only))
        if needed and not page.exists():
            fiducial(command, *words, "--out", page if command == "profile" else target, log=out / f"{target.name}.log")
        if command in only and page.exists():
            pages[target.name] = page
    return pages


def make_motion(out: Path, count: int) -> dict[str, Path]:
    """Makes the page of a run without labels, of so many points."""
    run = out / f"motion-{count}p"
    words = ["--method", "motion", "--epochs", "1", "--size", "64x64", "--batch-size", "4", "--set=motion.pairs=20"]
    if not run.exists():
        clips = write_clips(out / "clips")
        fiducial("fit", clips, "--out", run, *words, f"--set=motion.points={count}", log=out / f"{run.name}.log")
    return {run.name: run / "report.html"} if (run / "report.html").exists() else {}


class Camera:
    """Takes pictures of pages with Chromium, and says what is wrong with them that a program can tell."""

    def __init__(self, shots: Path) -> None:
        from selenium import webdriver

        if not (shutil.which("chromium") and shutil.which("chromedriver")):
            sys.exit("no chromium with chromedriver here; on Debian: apt-get install chromium chromium-driver")
        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for switch in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
            options.add_argument(f"--{switch}")
        service = webdriver.ChromeService(str(shutil.which("chromedriver")))
        self.driver, self.shots = webdriver.Chrome(options=options, service=service), shots

    def screen(self, width: int) -> None:
        """Makes the screen so many px wide; narrow ones are a phone's."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def shoot(self, address: str, name: str, photo: Path | None = None) -> None:
        """Writes SHOTS/NAME-WIDTH-SLICE.png at both widths, on a light ground, after giving `photo` to the page where one is taken."""
        for width in WIDTHS:
            self.screen(width)
            self.driver.get(address)
            if photo is not None:
                self.driver.find_element("css selector", "input[type=file]").send_keys(str(photo.resolve()))
                time.sleep(4)
            for scheme in ("dark", "light"):
                self.driver.execute_cdp_cmd(
                    "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
                )
                for fault in self.driver.execute_script(FAULTS):
                    print(f"{name} at {width} px, {scheme}: {fault}", file=sys.stderr)
            height = self.driver.execute_script("return document.documentElement.scrollHeight")
            for i, top in enumerate(range(0, height, SLICE)):
                clip = {"x": 0, "y": top, "width": width, "height": min(SLICE, height - top), "scale": 1}
                what = {"clip": clip, "captureBeyondViewport": True}
                shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", what)
                (self.shots / f"{name}-{width}-{i}.png").write_bytes(b64decode(shot["data"]))


def shoot_served(camera: Camera, run: Path, photo: Path, name: str) -> None:
    """Takes pictures of what `fiducial serve` shows of a photo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fiducial.cli", "serve", str(run), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(240):
                with socket.socket() as attempt:
                    if attempt.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            camera.shoot(f"http://127.0.0.1:{port}/", name, photo)
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes every page, and screenshots of them.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--points", default="5,32,133")
    parser.add_argument("--instances", default="3,16,3000")
    parser.add_argument("--only", default="evaluate,fit,compare,distill,profile,serve,motion")
    parser.add_argument("--fresh", action="store_true", help="make all again; without it only what is missing")
    asked = parser.parse_args()
    out, only = asked.out, asked.only.split(",")
    if asked.fresh:
        shutil.rmtree(out, ignore_errors=True)
    shots = out / "shots"
    shots.mkdir(parents=True, exist_ok=True)
    camera = Camera(shots)
    try:
        for count in map(int, asked.points.split(",")):
            pages = make_motion(out, count) if "motion" in only and count < 100 else {}
            for instances in map(int, asked.instances.split(",")):
                pages |= make_pages(out, count, instances, only)
                run, cell = out / f"fit-{count}p-{instances}i", f"{count}p-{instances}i"
                if "serve" in only and run.exists():
                    photo = next((out / "data" / cell / "images").glob("test_*"))
                    shoot_served(camera, run, photo, f"serve-{cell}")
            for name, page in pages.items():
                camera.shoot(page.resolve().as_uri(), name)
    finally:
        camera.driver.quit()


if __name__ == "__main__":
    main()
