"use strict";
// Draws a picture with what was found in it. Points are px with pixel centres at integers; a canvas measures from its
// edge, half a px further.
const onCanvas = (point) => [point.x + 0.5, point.y + 0.5];

// `shown`: {edges, labels, sigma: which of them are wanted, least: the lowest score, box: one that was drawn, heat: a map}.
function drawAll(canvas, picture, answer, skeleton, shown) {
  const context = canvas.getContext("2d");
  const longer = Math.max(picture.width, picture.height), unit = longer / 400;
  const density = Math.ceil(1000 / longer);  // points on small pictures are drawn finer than their px
  canvas.width = picture.width * density;
  canvas.height = picture.height * density;
  context.setTransform(density, 0, 0, density, 0, 0);
  context.drawImage(picture, 0, 0);
  if (shown.heat) drawHeatmap(context, picture, shown.heat, answer.heatmap.box);
  if (shown.box) {
    context.strokeStyle = "#ffd400";
    context.lineWidth = unit;
    context.strokeRect(...shown.box);
  }
  if (!answer) return;
  for (const instance of answer.instances) {
    const { points } = instance;
    if (instance.box) drawPlace(context, instance, unit);
    const crowd = points.length > 60 ? 0.5 : points.length > 20 ? 0.75 : 1;
    if (shown.edges) drawEdges(context, points, skeleton, shown.least, unit * crowd);
    for (const point of points) if (point.score >= shown.least) drawPoint(context, point, shown, unit * crowd);
  }
}

// Where the model found an instance, who it is in a video, and how sure it is.
function drawPlace(context, { box, score, category, track_id: who }, unit) {
  const text = [category ?? "", who === undefined ? "" : `#${who}`, score === null ? "" : score.toFixed(2)].filter(Boolean).join(" ");
  context.strokeStyle = "#ffd400";
  context.lineWidth = unit * 0.8;
  context.strokeRect(...box);
  context.font = `${unit * 7}px system-ui, sans-serif`;
  context.fillStyle = "#ffd400";
  context.fillText(text, box[0] + unit, box[1] + unit * 7);
}

// The picture is darkened, and the map shines on it in orange.
function drawHeatmap(context, picture, heat, box) {
  const glow = new OffscreenCanvas(heat.width, heat.height), paint = glow.getContext("2d");
  paint.drawImage(heat, 0, 0);
  paint.globalCompositeOperation = "multiply";
  paint.fillStyle = "#ff8a2a";
  paint.fillRect(0, 0, heat.width, heat.height);
  context.fillStyle = "#0009";
  context.fillRect(0, 0, picture.width, picture.height);
  context.globalCompositeOperation = "lighter";
  context.drawImage(glow, ...box);
  context.globalCompositeOperation = "source-over";
}

// Each limb has a colour of its own, with a dark rim, so that it is seen on any picture.
function drawEdges(context, points, { points: names, edges }, least, unit) {
  const named = new Map(points.map((point) => [point.name, point]));  // of several kinds each has some of the points
  for (const [rim, width] of [[true, 3], [false, 1.8]]) {
    edges.forEach(([a, b], i) => {
      const ends = [named.get(names[a]), named.get(names[b])];
      if (!ends.every((end) => end && end.score >= least)) return;
      context.strokeStyle = rim ? "#000a" : `hsl(${Math.round(360 * i / edges.length)} 95% 62%)`;
      context.lineWidth = unit * width;
      context.beginPath();
      context.moveTo(...onCanvas(ends[0]));
      context.lineTo(...onCanvas(ends[1]));
      context.stroke();
    });
  }
}

// Half axes of one sigma and the turn of the first, clockwise, of a covariance.
function axesOf([sx, sy], correlation) {
  const mean = (sx * sx + sy * sy) / 2, half = (sx * sx - sy * sy) / 2, mixed = correlation * sx * sy;
  const apart = Math.hypot(half, mixed);
  return [Math.sqrt(mean + apart), Math.sqrt(Math.max(0, mean - apart)), Math.atan2(mixed, half) / 2];
}

function drawPoint(context, point, shown, unit) {
  const [x, y] = onCanvas(point), turn = 2 * Math.PI;
  context.lineWidth = unit * 0.5;
  context.strokeStyle = "#ffffffcc";
  if (point.sigma && shown.sigma) {
    context.beginPath();
    context.ellipse(x, y, ...axesOf(point.sigma, point.correlation ?? 0), 0, turn);
    context.stroke();
  }
  context.fillStyle = `hsl(${Math.round(120 * Math.min(Math.max(point.score, 0), 1))} 90% 42%)`;  // red to green
  context.beginPath();
  context.arc(x, y, unit * 2.4, 0, turn);
  context.fill();
  context.stroke();
  if (!shown.labels) return;
  context.font = `${unit * 7}px system-ui, sans-serif`;
  context.lineWidth = unit * 1.2;
  context.strokeStyle = "#000b";
  context.strokeText(point.name, x + unit * 2.5, y - unit * 2);
  context.fillStyle = "#fff";
  context.fillText(point.name, x + unit * 2.5, y - unit * 2);
}
