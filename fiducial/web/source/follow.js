"use strict";
// Boxes from the points of the frame before, of a model without a finder or of a box that was drawn: what
// prediction/tracking.py does for one instance, with its constants. A test holds both against each other.
const MARGIN = 0.1, STEP = 0.5, LOOK_BACK = 15, LESS_UNSURE = 0.5, VISIBLE = 0.25, SMALLEST = 0.125;

// The box around an instance's points that count, with a margin on each side; at least one px without it.
function boxAround(points) {
  const sure = confidentPoints(points), some = points.filter((_, i) => sure[i]);
  if (!some.length) return [NaN, NaN, NaN, NaN];
  const spans = ["x", "y"].map((axis) => {
    const values = some.map((point) => point[axis]), low = Math.min(...values), high = Math.max(...values);
    const extent = Math.max(high - low, 1) * (1 + 2 * MARGIN);
    return [(low + high) / 2 + 0.5 - extent / 2, extent];  // + 0.5: from px to the box's edge frame
  });
  return [spans[0][0], spans[1][0], spans[0][1], spans[1][1]];
}

class Follower {
  // start: where the instance is in the first frame, null: somewhere in it; spec: the model's.
  constructor(start, spec) {
    Object.assign(this, { start, spec, number: 1, box: null, frames: 0 });
  }

  // The answer about the next frame of `size`, its one instance with the box in which it was found and its number. `ask(box)`
  // gives the answer in a box, null: in the whole frame.
  async look(ask, size) {
    let now = this.box ? { box: this.box, answer: await ask(this.box) } : await this.atStart(ask, size);
    if (this.box && this.frames % LOOK_BACK === 0) {
      const back = await this.atStart(ask, size), unsure = ({ answer }) => 1 - meanScore(answer.instances[0].points);
      if (unsure(back) < LESS_UNSURE * unsure(now)) {
        this.number += 1;  // as nobody knows whether it is the same
        now = back;
      }
    }
    const [instance] = now.answer.instances, number = this.number;
    this.frames += 1;
    this.move(now.box, instance.points, size);
    return { ...now.answer, instances: [{ ...instance, box: now.box, score: null, track_id: number }] };
  }

  // Where it was in the first frame; if that is not known, first in the whole frame, then closer.
  async atStart(ask, size) {
    const box = this.startBox(size), answer = await ask(this.start);
    if (this.start) return { box, answer };
    const closer = boxAround(answer.instances[0].points);
    return this.isUseless(closer, size) ? { box, answer } : { box: closer, answer: await ask(closer) };
  }

  // The crop of a box is enlarged by the model's padding; that of the whole frame is not.
  startBox([width, height]) {
    if (this.start) return this.start;
    const w = width / this.spec.padding, h = height / this.spec.padding;
    return [(width - w) / 2, (height - h) / 2, w, h];
  }

  // Half the way to the box around the points; back to the start where that is of no use.
  move(box, points, size) {
    const target = boxAround(points);
    if (this.isUseless(target, size)) {
      this.number += 1;
      this.box = this.startBox(size);
    } else this.box = box.map((value, i) => value + STEP * (target[i] - value));
  }

  isUseless(box, [width, height]) {
    if (!box.every(Number.isFinite)) return true;
    const [x, y, w, h] = box;
    if (Math.max(w, h) < SMALLEST * Math.max(...this.spec.size)) return true;
    const inside = Math.max(0, Math.min(x + w, width) - Math.max(x, 0)) * Math.max(0, Math.min(y + h, height) - Math.max(y, 0));
    return inside < VISIBLE * w * h;
  }
}

const meanScore = (points) => points.reduce((sum, { score }) => sum + score, 0) / points.length;
