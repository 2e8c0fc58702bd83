"use strict";
// Who is who from frame to frame: what prediction/identities.py and kalman.py do for `fiducial predict --track`, with their
// constants. A test holds the numbers of both against each other. Cuts to another scene are not noticed here.
const POINT_NOISE = 0.03, BOX_NOISE = 0.05, SPEED = 0.1, ACCELERATION = 0.02, KEPT = 0.95;  // in sides of the box, a frame
const DOUBT = 0.25, SIGMA = 0.15, CONFIDENT = 0.5, OF_POINTS = 0.5, LEAST_ALIKE = 0.1, GAP = 30, SURE = 0.5, SIGHTINGS = 3;

// Which points of an instance say where it is: those with half of the median score or more.
function confidentPoints(points) {
  const known = points.map(({ x, y, score }) => [x, y, score].every(Number.isFinite));
  const ordered = points.filter((_, i) => known[i]).map(({ score }) => score).sort((a, b) => a - b), { length } = ordered;
  if (!length) return known;
  const median = (ordered[(length - 1) >> 1] + ordered[length >> 1]) / 2;
  return points.map(({ score }, i) => known[i] && score >= CONFIDENT * median);
}

// A number that changes: its value, its speed, and their covariance a (value), b, c (speed). NaN: not seen yet.
const begunNumber = (value, variance, speedVariance) => ({ value, speed: 0, a: variance, b: 0, c: speedVariance });

function foretold({ value, speed, a, b, c }, steps, acceleration) {
  const way = (1 - KEPT ** steps) / (1 - KEPT), kept = KEPT ** steps;
  return {
    value: value + way * speed,
    speed: kept * speed,
    a: a + 2 * way * b + way * way * c + acceleration * steps ** 3 / 3,
    b: kept * b + way * kept * c + acceleration * steps ** 2 / 2,
    c: kept * kept * c + acceleration * steps,
  };
}

function measured(number, value, variance) {
  if (!Number.isFinite(value)) return number;
  if (!Number.isFinite(number.value)) return begunNumber(value, variance, number.c);
  const { a, b, c } = number, gain = a / (a + variance), speedGain = b / (a + variance), off = value - number.value;
  return { value: number.value + gain * off, speed: number.speed + speedGain * off, a: a - gain * a, b: b - gain * b, c: c - speedGain * b };
}

// Pairs rows with columns of worth [n][m], none below 0, for the largest sum (Kuhn 1955, with the potentials of Jonker and
// Volgenant 1987): [row, column] of those that are worth something.
function bestPairs(worth) {
  const rows = worth.length, columns = rows ? worth[0].length : 0, side = Math.max(rows, columns);
  if (!rows || !columns) return [];
  const cost = (i, j) => (i < rows && j < columns ? -worth[i][j] : 0);
  const u = new Array(side + 1).fill(0), v = new Array(side + 1).fill(0), rowOf = new Array(side + 1).fill(0);
  for (let i = 1; i <= side; i += 1) {
    const least = new Array(side + 1).fill(Infinity), from = new Array(side + 1).fill(0), done = new Array(side + 1).fill(false);
    let at = 0;
    rowOf[0] = i;
    do {
      done[at] = true;
      let step = Infinity, next = 0;
      for (let j = 1; j <= side; j += 1) {
        if (done[j]) continue;
        const reduced = cost(rowOf[at] - 1, j - 1) - u[rowOf[at]] - v[j];
        if (reduced < least[j]) { least[j] = reduced; from[j] = at; }
        if (least[j] < step) { step = least[j]; next = j; }
      }
      for (let j = 0; j <= side; j += 1) {
        if (done[j]) { u[rowOf[j]] += step; v[j] -= step; } else least[j] -= step;
      }
      at = next;
    } while (rowOf[at]);
    for (; at; at = from[at]) rowOf[at] = rowOf[from[at]];
  }
  const pairs = [];
  for (let j = 1; j <= columns; j += 1) if (rowOf[j] <= rows && worth[rowOf[j] - 1][j - 1] > 0) pairs.push([rowOf[j] - 1, j - 1]);
  return pairs.sort((one, other) => one[0] - other[0]);
}

class Identities {
  // sigmas of the skeleton, null: all points alike; names of its points, of which instances of a kind have some.
  constructor(sigmas, names) {
    const mean = sigmas && sigmas.reduce((sum, sigma) => sum + sigma, 0) / sigmas.length;
    this.sigmas = sigmas && sigmas.map((sigma) => sigma * SIGMA / mean);
    this.names = names;
    this.known = [];
    this.count = 0;
  }

  // Numbers the instances of a frame, {points, box, score}, `steps` frames after the last: null = nobody yet.
  next(instances, steps) {
    const found = instances.map((instance) => this.begun(instance));
    const known = this.known.map((one) => ({
      ...one,
      unseen: one.unseen + steps,
      numbers: one.numbers.map((number) => foretold(number, steps, (ACCELERATION * one.side) ** 2)),
    }));
    const worth = known.map((one) => found.map((other, i) => this.worth(one, other, instances[i].score ?? 1)));
    const pairs = bestPairs(worth), met = new Set(pairs.map(([row]) => row)), taken = new Set(pairs.map(([, column]) => column));
    const people = pairs.map(([row, column]) => [column, this.met(known[row], found[column])]);
    found.forEach((one, i) => { if (!taken.has(i)) people.push([i, one]); });
    const who = instances.map(() => null);
    for (const [i, one] of people) {
      if (one.number === null && ((instances[i].score ?? 1) >= SURE || one.seen >= SIGHTINGS)) one.number = this.count += 1;
      who[i] = one.number;
    }
    const left = known.filter((one, row) => !met.has(row) && one.unseen <= GAP && one.number !== null);
    this.known = [...people.map(([, one]) => one), ...left];
    return who;
  }

  // x and y of the points that count, and of the box's two corners, one after the other.
  begun({ points, box: [x, y, width, height], category = null }) {
    const sure = confidentPoints(points), side = Math.sqrt(width * height);
    const placed = new Map(points.map((point, i) => [point.name, sure[i] ? [point.x, point.y] : [NaN, NaN]]));
    const places = [...this.names.map((name) => placed.get(name) ?? [NaN, NaN]), [x, y], [x + width, y + height]];
    const numbers = places.flatMap((place, i) => place.map((value) => begunNumber(value, Identities.noise(i < this.names.length, side), (SPEED * side) ** 2)));
    return { number: null, category, seen: 1, unseen: 0, side, numbers };
  }

  met(known, found) {
    const points = found.numbers.length / 2 - 2;
    const numbers = known.numbers.map((number, i) => measured(number, found.numbers[i].value, Identities.noise(i < 2 * points, found.side)));
    return { number: known.number, category: known.category, seen: known.seen + found.seen, unseen: 0, side: found.side, numbers };
  }

  static noise(isPoint, side) { return ((isPoint ? POINT_NOISE : BOX_NOISE) * side) ** 2; }

  static box({ numbers }) {
    const [x0, y0, x1, y1] = numbers.slice(-4).map(({ value }) => value);
    return [x0, y0, Math.max(x1 - x0, 1e-3), Math.max(y1 - y0, 1e-3)];
  }

  static near(known, found) {
    const middle = ({ numbers }) => [(numbers.at(-4).value + numbers.at(-2).value) / 2, (numbers.at(-3).value + numbers.at(-1).value) / 2];
    const one = middle(known), other = middle(found), doubt = 2 * Math.sqrt((known.numbers.at(-2).a + known.numbers.at(-1).a) / 2);
    return one.every((value, axis) => Math.abs(value - other[axis]) <= known.side + found.side + doubt);
  }

  // How alike they are, by points and boxes, times how certain the foretold place is; 0: not the same.
  worth(known, found, score) {
    if (known.category !== found.category || !Identities.near(known, found)) return 0;
    const area = (known.side ** 2 + found.side ** 2) / 2, places = known.numbers.length / 2;
    let similar = 0, both = 0, either = 0, certain = 0, counted = 0;
    for (let i = 0; i < places; i += 1) {
      const isPoint = i < places - 2, own = isPoint && this.sigmas ? this.sigmas[i] : SIGMA;
      const [kx, ky, fx, fy] = [known.numbers[2 * i], known.numbers[2 * i + 1], found.numbers[2 * i], found.numbers[2 * i + 1]];
      const inKnown = Number.isFinite(kx.value) && Number.isFinite(ky.value), inFound = Number.isFinite(fx.value) && Number.isFinite(fy.value);
      if (isPoint && (inKnown || inFound)) either += 1;
      if (!inKnown || !inFound) continue;
      const doubt = (kx.a + ky.a) / 2 / (4 * area);
      counted += 1;
      certain += own ** 2 / (own ** 2 + doubt);
      if (!isPoint) continue;
      both += 1;
      const wide = own ** 2 + Math.min(doubt, DOUBT ** 2 / 4), apart = (kx.value - fx.value) ** 2 + (ky.value - fy.value) ** 2;
      similar += Math.exp(-apart / (4 * wide) / area / 2);
    }
    const oks = similar / Math.max(both, 1), iou = boxIou(Identities.box(known), Identities.box(found)), share = both / Math.max(either, 1);
    const shareAlike = both ? OF_POINTS : 0, shareSure = OF_POINTS * share;
    if (shareAlike * oks + (1 - shareAlike) * iou < LEAST_ALIKE) return 0;
    return certain / counted * (shareSure * oks + (1 - shareSure) * iou) * Math.max(score, 1e-3);
  }
}

function boxIou([ax, ay, aw, ah], [bx, by, bw, bh]) {
  const width = Math.max(Math.min(ax + aw, bx + bw) - Math.max(ax, bx), 0), height = Math.max(Math.min(ay + ah, by + bh) - Math.max(ay, by), 0);
  return width * height / (aw * ah + bw * bh - width * height);
}
