"use strict";
// The entries of a COCO results file, as `fiducial predict` writes them (prediction/outputs.py), of an answer about one
// picture or frame. `about`: {image_id, file_name, seconds: of a frame, kinds: names of what is told apart}.
function cocoEntries(answer, about) {
  const to6 = (value) => Math.round(value * 1e6) / 1e6;
  return answer.instances.map(({ points, box, score, category, track_id: who }) => {
    const mean = points.reduce((sum, point) => sum + point.score, 0) / points.length;
    const sure = typeof score === "number" ? score : null;
    const entry = {
      image_id: about.image_id,
      category_id: 1 + Math.max(0, (about.kinds ?? []).indexOf(category)),
      keypoints: points.flatMap((point) => [point.x, point.y, point.score].map(to6)),
      score: sure === null ? mean : mean * sure,
      file_name: about.file_name,
    };
    if (category) entry.category = category;
    if (about.seconds !== undefined) entry.seconds = to6(about.seconds);
    if (who !== undefined) entry.track_id = who;
    if (box) entry.bbox = box;
    if (sure !== null) entry.bbox_score = to6(sure);
    if (points.every((point) => point.sigma)) entry.keypoint_sigmas = points.flatMap((point) => point.sigma);
    if (points.every((point) => typeof point.correlation === "number")) entry.keypoint_correlations = points.map((point) => point.correlation);
    if (points.every((point) => point.visibility)) {
      entry.keypoint_visibility = Object.fromEntries(Object.keys(points[0].visibility).map((state) => [state, points.map((point) => point.visibility[state])]));
    }
    if (points.every((point) => typeof point.radius_90 === "number")) entry.keypoint_radii_90 = points.map((point) => point.radius_90);
    return entry;
  });
}

// The text of the file: an entry a line.
const cocoText = (entries) => entries.length ? `[${entries.map((entry) => JSON.stringify(entry)).join(",\n")}]\n` : "[]\n";
