// What runs beside the page: ONNX Runtime Web, whose script stands before this one, and the model. It takes whole pictures:
// the crop, the decode and the way back to px of the picture are in the model's file.
"use strict";
let session = null, facts = null, defaults = {};

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

async function start({ ort: parts, model, threads, outputs, finds, defaults: leftOut }) {
  let wasm, bytes;
  try {
    wasm = await unpacked(parts.wasm);
  } catch (error) {
    throw new Error("index.ort.js is damaged. Copy the whole folder anew.");
  }
  try {
    bytes = await unpacked(model);
  } catch (error) {
    throw new Error("index.model.js is damaged. Copy the whole folder anew.");
  }
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([parts.module], { type: "text/javascript" })) };
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = threads;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  } catch (error) {
    throw new Error(`The model can't be loaded: ${error.message}`);
  }
  defaults = tensorsOf(leftOut);
  facts = { threads, outputs, finds, version: ort.env.versions.web };
  return facts;
}

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

const kinds = { uint8: Uint8Array, float32: Float32Array };
const tensorsOf = (given) => Object.fromEntries(Object.entries(given).map(([name, { type, dims, data }]) => [name, new ort.Tensor(type, kinds[type].from(data), dims)]));
const plain = (tensors) => Object.fromEntries(Object.entries(tensors).map(([name, { type, dims, data }]) => [name, { type, dims: [...dims], data }]));

// Picture and boxes [n][4]; none: what the finder finds, without one the whole picture.
async function look({ picture, boxes }) {
  const feed = { ...defaults, image: pixelsOf(picture), boxes: new ort.Tensor("float32", Float32Array.from(boxes.flat()), [boxes.length, 4]) };
  const found = facts.finds && !boxes.length;
  const columns = plain(await session.run(feed, [...facts.outputs, ...(facts.finds ? ["box", "box_score"] : [])]));
  for (const [name, { data }] of Object.entries(columns)) {
    if (!data.every(Number.isFinite)) throw new Error(`The model gives numbers that are not finite for ${name}: its weights are damaged.`);
  }
  return { columns, found };
}

// Any inputs by name, for certificates.
async function run({ feed, names }) {
  return plain(await session.run({ ...defaults, ...tensorsOf(feed) }, names));
}

self.addEventListener("message", async ({ data: { number, kind, content } }) => {
  try {
    self.postMessage({ number, answer: await { start, look, run }[kind](content) });
  } catch (error) {
    self.postMessage({ number, error: error.message || String(error) });
  }
});
