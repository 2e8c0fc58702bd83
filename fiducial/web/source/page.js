"use strict";
// The page: ways in (a file, a drop, a paste, a camera, a video), what is asked, what is shown and saved. Who answers is
// `backend`, of server.js or of local.js.
const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
let model = null;    // the card
let still = null;    // what is asked about: {picture: an ImageBitmap, upright, file: where it came from, name, seconds}
let answer = null, heat = null;
let asked = 0;       // the number of the latest question: older answers are not shown
let moving = null;   // the camera or the video that plays
let entries = [];    // of the COCO file: of the picture, or of all frames so far
let people = null, follower = null, before = 0;  // who is who in what moves, and the number of the frame before
let drag = null;

// Of every frame of a video nothing is read aloud; what is wrong is, at once.
function say(text, bad = false) {
  $("said").setAttribute("aria-live", bad ? "assertive" : moving ? "off" : "polite");
  $("said").textContent = text;
  $("said").classList.toggle("bad", bad);
}

function forget() {
  answer = heat = null;
  entries = [];
  for (const id of ["points", "details", "saving"]) $(id).hidden = true;
  $("view").classList.remove("found");
  canvas.setAttribute("aria-label", still ? "the picture, without points" : "no picture yet");
  draw();
}

// Gets the card, and shows what it says; `loaded` is over when that is done.
let loaded = null;
const begin = () => (loaded = load());

async function load() {
  try {
    model = await backend.about(say);
  } catch (error) {
    say(error.message, true);
    return;
  }
  say("");
  $("about").textContent = `${model.title}; ${model.spec.skeleton.points.length} points; licence of the weights: ${model.terms}`;
  $("heatmap-choice").hidden = !model.heatmaps;
  $("edges-choice").hidden = model.spec.skeleton.edges.length === 0;
  if (still && !moving) await ask();
}

// The pixels of a file, upright, as the package reads them: no profile of colours is applied.
const readPicture = (file) => createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });

async function take(file) {
  stopMoving();
  $("box").value = "";
  asked += 1;  // answers about the picture before this one come too late
  if (file.type.startsWith("video/")) {
    await follow(openVideo(file));
    return;
  }
  try {
    still = { picture: await readPicture(file), file, name: file.name };
  } catch (error) {
    still = null;
    forget();
    say(`${file.name || "This"} is not a picture that the browser can show.`, true);
    return;
  }
  forget();
  await ask();
}

// [x, y, width, height] or null; undefined where the text is no box.
function typedBox() {
  const text = $("box").value.trim();
  if (!text) return null;
  const numbers = text.split(/[\s,;]+/).map(Number);
  return numbers.length === 4 && numbers.every(Number.isFinite) ? numbers : undefined;
}

// Asks about `still` and shows the answer; whether there was one.
async function ask() {
  if (!still || !model) return false;
  const box = typedBox();
  if (box === undefined) {
    say("box: expected four numbers in px: x, y, width, height", true);
    return false;
  }
  const number = ++asked, about = still;
  let found, image = null;
  try {
    found = await look(about, box);
    if (found.heatmap) {
      image = new Image();
      image.src = `data:image/png;base64,${found.heatmap.png}`;
      await image.decode();
    }
  } catch (error) {
    if (number !== asked) return false;
    if (!moving) forget();
    say(error.message, true);
    return false;
  }
  if (number !== asked) return false;
  answer = found;
  heat = image;
  keep(about);
  show();
  return true;
}

// In what moves: who is who among those that the finder found, or the box follows the points of the frame before.
async function look(about, box) {
  const ask = (where) => backend.ask(about, where, $("heatmap").checked);
  if (!moving || !$("track").checked) return ask(box);
  const steps = Math.max(1, about.frame - before);
  before = about.frame;
  if (!model.finder || box) {
    follower ??= new Follower(box, model.spec);
    return follower.look(ask, [about.picture.width, about.picture.height]);
  }
  people ??= new Identities(model.spec.skeleton.sigmas, model.spec.skeleton.points);
  const found = await ask(null), who = people.next(found.instances, steps);
  found.instances.forEach((instance, i) => { if (who[i] !== null) instance.track_id = who[i]; });
  return found;
}

function forgetWho() {
  people = follower = null;
  before = 0;
}

// Into the COCO file: a picture replaces what was there, a frame is one more.
function keep(about) {
  const of = { image_id: 1, file_name: about.name ?? "", kinds: Object.keys(model.spec.skeleton.kinds ?? {}) };
  if (about.seconds === undefined) {
    entries = cocoEntries(answer, of);
    return;
  }
  entries.push(...cocoEntries(answer, { ...of, image_id: about.frame + 1, file_name: `${of.file_name}#${String(about.frame).padStart(6, "0")}`, seconds: about.seconds }));
}

function show() {
  const points = answer.instances.flatMap((instance) => instance.points);
  const mean = points.reduce((sum, point) => sum + point.score, 0) / Math.max(points.length, 1);
  const found = answer.instances.some(({ score }) => typeof score === "number"), several = answer.instances.length > 1;
  const counted = found || !answer.instances.length ? `${answer.instances.length} found, ` : "";
  say(`${counted}${points.length} points, mean score ${mean.toFixed(2)}, ${answer.ms.toFixed(0)} ms ${backend.where}`);
  canvas.setAttribute("aria-label", `the picture with ${points.length} points`);
  $("sigma-choice").hidden = !points.some((point) => point.sigma);
  const named = answer.instances.flatMap(({ points: own, track_id: who }, i) => own.map((point) => ({ ...point, name: several ? `${who ?? i + 1} ${point.name}` : point.name })));
  $("rows").replaceChildren(...named.map((point) => {
    const row = document.createElement("tr");
    for (const text of [point.name, point.x.toFixed(1), point.y.toFixed(1), point.score.toFixed(2)]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    return row;
  }));
  $("json").textContent = JSON.stringify({ ...answer, heatmap: undefined }, null, 1);
  for (const id of ["points", "details", "saving"]) $(id).hidden = false;
  $("view").classList.add("found");
  draw();
}

function draw() {
  if (!still) { canvas.width = canvas.height = 1; return; }
  drawAll(canvas, still.picture, answer, model?.spec.skeleton ?? { points: [], edges: [] }, {
    edges: $("edges").checked,
    labels: $("labels").checked,
    sigma: $("sigma").checked,
    least: Number($("least").value),
    box: typedBox(),
    heat: $("heatmap").checked ? heat : null,
  });
}

// Frame by frame, the newest each time: what comes while one is looked at is passed over.
async function follow(opening) {
  still = null;
  forget();
  let opened;
  try {
    opened = moving = await opening;
    await loaded;
  } catch (error) {
    say(error.message, true);
    return;
  }
  $("box").value = "";
  forgetWho();
  showPlayer();
  let last = say;
  while (moving === opened) {
    const frame = await opened.next();
    if (!frame || moving !== opened) break;
    still = frame;
    if (!await ask() && moving === opened) {
      last = null;  // what went wrong stays said
      break;
    }
  }
  if (moving === opened) {
    stopMoving();
    if (last && opened.frames !== undefined) last(`The video is over: ${opened.frames} frames were looked at, ${opened.passed} passed over.`);
  }
}

function showPlayer() {
  const camera = moving?.kind === "camera";
  $("camera").textContent = camera ? "stop the camera" : "use the camera";
  $("camera").setAttribute("aria-pressed", String(camera));
  $("player").hidden = moving?.kind !== "video";
  $("track-choice").hidden = !moving;
  $("pause").textContent = moving?.paused ? "go on" : "pause";
  $("pause").setAttribute("aria-pressed", String(Boolean(moving?.paused)));
}

function stopMoving() {
  moving?.stop();
  moving = null;
  showPlayer();
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([cocoText(entries)], { type: "application/json" }));
  link.download = `${(still?.name || "points").replace(/\.[^.]*$/, "")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Ways in: a file, a drop, a paste, the camera.
$("file").addEventListener("change", () => {
  if ($("file").files[0]) take($("file").files[0]);
  $("file").value = "";  // the same file may be chosen again
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) take(event.clipboardData.files[0]);
});
$("camera").addEventListener("click", () => {
  const camera = moving?.kind === "camera";
  stopMoving();
  if (!camera) follow(openCamera());
});
$("pause").addEventListener("click", () => { moving?.pause(); showPlayer(); });
$("stop").addEventListener("click", () => stopMoving());
$("save").addEventListener("click", save);

// The settings, and a box by mouse or finger.
for (const id of ["labels", "edges", "sigma"]) $(id).addEventListener("change", draw);
// Of what moves the next frame is asked about anyway.
function askAnew() {
  forgetWho();
  draw();
  if (!moving) ask();
}
for (const id of ["heatmap", "box", "track"]) $(id).addEventListener("change", askAnew);
$("least").addEventListener("input", () => {
  $("least-value").textContent = Number($("least").value).toFixed(2);
  draw();
});

function place(event) {
  const shown = canvas.getBoundingClientRect(), { picture } = still;
  const scale = Math.max(picture.width / shown.width, picture.height / shown.height);
  const left = (shown.width - picture.width / scale) / 2;  // the picture is in the middle of its element, at the top
  return [(event.clientX - shown.left - left) * scale, (event.clientY - shown.top) * scale];
}
const boxing = () => canvas.classList.contains("boxing");
function setBoxing(on) {
  canvas.classList.toggle("boxing", on);
  $("boxing").setAttribute("aria-pressed", String(on));
}
$("boxing").addEventListener("click", () => setBoxing(!boxing()));
canvas.addEventListener("pointerdown", (event) => {
  if (!still || moving || (event.pointerType === "touch" && !boxing())) return;  // fingers scroll
  drag = place(event);
  canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = place(event);
  const box = [Math.min(x, drag[0]), Math.min(y, drag[1]), Math.abs(x - drag[0]), Math.abs(y - drag[1])];
  $("box").value = box[2] < 4 || box[3] < 4 ? "" : box.map(Math.round).join(", ");
  draw();
});
canvas.addEventListener("pointerup", () => {
  if (!drag) return;
  drag = null;
  setBoxing(false);
  ask();
});
canvas.addEventListener("pointercancel", () => { drag = null; });

begin();
