"use strict";
// An answer as `fiducial serve` gives it (serve/answers.py), of what the network's file gave.
// `columns`: {xy, score, sigma?, correlation?, box?, box_score?, box_kind?}, each {dims, data}; `about`: the card with its title.
function answerOf(columns, about, size, ms, found) {
  const to = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;
  const { points: names } = about.spec.skeleton, { spread } = about.spec, kinds = about.spec.skeleton.kinds ?? {};
  const at = spread ? spread.shares.indexOf(0.9) : -1;
  const { xy, score, sigma, correlation, box, box_score: sure, box_kind: kind } = columns;
  // What an instance is, by the finder's own names, and the points of those.
  const kindOf = (i) => {
    if (!found || !Object.keys(kinds).length) return [null, names.keys()];
    const category = about.finder.skeleton.points[Number(kind.data[i])];
    return [category, kinds[category]];
  };
  const instances = Array.from({ length: xy.dims[0] }, (_, i) => ({
    points: Array.from(kindOf(i)[1], (k) => {
      const name = names[k];
      const row = i * names.length + k, [sx, sy] = sigma ? [sigma.data[2 * row], sigma.data[2 * row + 1]] : [];
      return {
        name,
        x: to(xy.data[2 * row], 3),
        y: to(xy.data[2 * row + 1], 3),
        score: to(score.data[row], 5),
        sigma: sigma ? [to(sx, 3), to(sy, 3)] : null,
        radius_90: sigma && at >= 0 ? to(Math.sqrt((sx * sx + sy * sy) / 2) * spread.factors[at], 3) : null,
        visibility: spread?.sight ? visibilityOf(spread.sight, k, score.data[row], to) : null,
        correlation: correlation ? to(correlation.data[row], 3) : null,
      };
    }),
    box: found ? Array.from(box.data.slice(4 * i, 4 * i + 4), (value) => to(value, 3)) : null,
    score: found ? to(sure.data[i], 5) : null,
    category: kindOf(i)[0],
  }));
  return { model: about.title, size, instances, ms: to(ms, 2), heatmap: null };
}

// How likely point k is visible, hidden or outside, by its score (`types.Sight`).
function visibilityOf({ states, slopes, offsets }, k, score, to) {
  const held = Math.min(Math.max(score, 1e-4), 1 - 1e-4), logit = Math.log(held / (1 - held));
  const share = states.map((_, i) => Math.exp(offsets[k][i] + logit * slopes[i])), all = share.reduce((sum, value) => sum + value, 0);
  return Object.fromEntries(states.map((state, i) => [state, to(share[i] / all, 4)]));
}
