// What runs beside the page: ONNX Runtime Web, whose script stands before this one, and the model. It takes whole pictures:
// the crop, the decode and the way back to px of the picture are in the model's files. These are three, one behind the
// other: what is before the network, the network, what is behind it. The network alone may run on a GPU: in another
// worker, since the runtime that knows GPUs lacks what the others need.
"use strict";
const TOLERANCE_PX = 0.05, RUNS = 3;
let chain = [], facts = null, defaults = {}, empty = {};

async function unpacked(text) {
  let bytes;
  if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(text);
  else {
    const binary = atob(text);
    bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i += 1) bytes[i] = binary.charCodeAt(i);
  }
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function prepare({ module, wasm, file }, threads) {
  let bytes;
  try {
    bytes = await unpacked(wasm);
  } catch (error) {
    throw new Error(`${file} is damaged. Copy the whole folder anew.`);
  }
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([module], { type: "text/javascript" })) };
  ort.env.wasm.wasmBinary = bytes;
  ort.env.wasm.numThreads = threads;
}

async function start({ ort: parts, model, threads, outputs, finds }) {
  await prepare(parts, threads);
  let files;
  try {
    files = await Promise.all(model.chain.map(unpacked));
  } catch (error) {
    throw new Error("index.model.js is damaged. Copy the whole folder anew.");
  }
  try {
    for (const file of files) chain.push(await ort.InferenceSession.create(file, { executionProviders: ["wasm"], logSeverityLevel: 3 }));
  } catch (error) {
    throw new Error(`The model can't be loaded: ${error.message}`);
  }
  defaults = tensorsOf(model.defaults);
  empty = model.empty;
  facts = { threads, outputs, finds, version: ort.env.versions.web };
  return facts;
}

// In the other worker: runs the network on the GPU for whoever has the other end of the port.
async function serve({ ort: parts, network, port }) {
  await prepare(parts, 1);
  const session = await ort.InferenceSession.create(await unpacked(network), { executionProviders: ["webgpu"], logSeverityLevel: 3 });
  port.onmessage = async ({ data }) => {
    try {
      port.postMessage({ found: plain(await session.run(tensorsOf(data)), session.outputNames) });
    } catch (error) {
      port.postMessage({ error: error.message || String(error) });
    }
  };
}

// Takes the network to the GPU, where it finds the same points there and is quicker; what was found.
async function gpu({ size: [width, height], port, always }) {
  const own = chain[1];
  const other = {
    inputNames: own.inputNames,
    run: (feed) => new Promise((resolve, reject) => {
      port.onmessage = ({ data: { found, error } }) => (error ? reject(new Error(error)) : resolve(tensorsOf(found)));
      port.postMessage(plain(feed, own.inputNames));
    }),
  };
  const data = new Uint8Array(width * height * 3);
  for (let i = 0, state = 1; i < data.length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;  // noise, the same each time
    data[i] = state >>> 24;
  }
  const image = new ort.Tensor("uint8", new Uint8Array(3), [1, 1, 3]), boxes = new ort.Tensor("float32", new Float32Array(0), [0, 4]);
  const feed = { ...defaults, image, boxes, crops: new ort.Tensor("uint8", data, [1, height, width, 3]) };
  const cpu = await timed(chain, feed), there = await timed([chain[0], other, chain[2]], feed);
  const apart = cpu.xy.reduce((most, value, i) => Math.max(most, Math.abs(value - there.xy[i])), 0);
  const used = apart <= TOLERANCE_PX && (always || there.ms < cpu.ms);
  // A GPU may be lost at any time, as when the device sleeps.
  if (used) chain[1] = { inputNames: own.inputNames, run: (feed) => other.run(feed).catch(() => (chain[1] = own).run(feed)) };
  return { used, apart_px: apart, ms_cpu: cpu.ms, ms_gpu: there.ms };
}

// The points of an input, and the least time of some runs after the first.
async function timed(sessions, feed) {
  let xy = null, ms = Infinity;
  for (let i = 0; i <= RUNS; i += 1) {
    const begin = performance.now();
    xy = (await through(sessions, feed)).xy.data;
    if (i) ms = Math.min(ms, performance.now() - begin);
  }
  return { xy, ms };
}

// All that files one behind the other make of inputs, by name.
async function through(sessions, feed) {
  let pool = { ...feed };
  for (const [i, session] of sessions.entries()) {
    if (i && nothing(pool)) return { ...pool, ...Object.fromEntries(Object.entries(empty).map(([name, dims]) => [name, new ort.Tensor("float32", new Float32Array(0), dims)])) };
    pool = { ...pool, ...await session.run(Object.fromEntries(session.inputNames.map((name) => [name, pool[name]]))) };
  }
  return pool;
}

// Whether the finder found no one, or no crop was given.
const nothing = (pool) => facts.finds && !pool.crops.dims[0] && !pool.box.dims[0];

// uint8 RGB [h, w, 3]; what is transparent is shown on black, as the package has it.
function pixelsOf(picture) {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, width, height), rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return new ort.Tensor("uint8", rgb, [height, width, 3]);
}

const kinds = { uint8: Uint8Array, float32: Float32Array, int64: BigInt64Array };
const tensorsOf = (given) => Object.fromEntries(Object.entries(given).map(([name, { type, dims, data }]) => [name, new ort.Tensor(type, data instanceof kinds[type] ? data : kinds[type].from(data), dims)]));
const plain = (tensors, names) => Object.fromEntries(names.map((name) => [name, { type: tensors[name].type, dims: [...tensors[name].dims], data: tensors[name].data }]));

// Picture and boxes [n][4]; none: what the finder finds, without one the whole picture.
async function look({ picture, boxes }) {
  const feed = { ...defaults, image: pixelsOf(picture), boxes: new ort.Tensor("float32", Float32Array.from(boxes.flat()), [boxes.length, 4]) };
  const found = facts.finds && !boxes.length;
  const columns = plain(await through(chain, feed), [...facts.outputs, ...(facts.finds ? ["box", "box_score", "box_kind"] : [])]);
  for (const [name, { data }] of Object.entries(columns)) {
    if (name !== "box_kind" && !data.every(Number.isFinite)) throw new Error(`The model gives numbers that are not finite for ${name}: its weights are damaged.`);
  }
  return { columns, found };
}

// Any inputs by name, for certificates.
async function run({ feed, names }) {
  return plain(await through(chain, { ...defaults, ...tensorsOf(feed) }), names);
}

// One question after the other: a session that waits for the GPU takes no second one.
let queue = Promise.resolve();
self.addEventListener("message", ({ data: { number, kind, content } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ number, answer: await { start, serve, gpu, look, run }[kind](content) });
    } catch (error) {
      self.postMessage({ number, error: error.message || String(error) });
    }
  });
});
