"use strict";
// The backend of a page without a server: ONNX Runtime Web and the model lie beside it, and answer in a worker. What it
// offers is what `server.js` offers. `fiducialParts` is filled by the scripts before this one.
const backend = (() => {
  const parts = fiducialParts, chosen = new URLSearchParams(location.search);
  const waiting = new Map();
  let worker = null, count = 0, loading = null, card = null, place = "";

  // (module (func (result v128) i32.const 0 i8x16.splat))
  const simd = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11]);

  // A question for the worker; `moved` is handed over to it.
  function tell(kind, content, moved = []) {
    const number = ++count;
    return new Promise((resolve, reject) => {
      waiting.set(number, { resolve, reject });
      worker.postMessage({ number, kind, content }, moved);
    });
  }

  function start() {
    worker = new Worker(URL.createObjectURL(new Blob([parts.ort.script, "\n", parts.worker], { type: "text/javascript" })));
    worker.addEventListener("message", ({ data }) => {
      const { resolve, reject } = waiting.get(data.number);
      waiting.delete(data.number);
      if (data.error === undefined) resolve(data.answer); else reject(new Error(data.error));
    });
    worker.addEventListener("error", (event) => {
      for (const { reject } of waiting.values()) reject(new Error(`The model's program broke off: ${event.message || "out of memory?"} Load the page anew.`));
      waiting.clear();
    });
  }

  function threads() {
    if (!self.crossOriginIsolated) return 1;
    return Number(chosen.get("threads")) || Math.min(4, navigator.hardwareConcurrency || 1);
  }

  const about = (say) => (loading ??= load(say));

  async function load(say) {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(simd)) {
      throw new Error("This browser has no WebAssembly with SIMD, which the model needs: take Chrome or Edge 91, Firefox 89, Safari 16.4 or a newer one.");
    }
    if (typeof DecompressionStream !== "function") {
      throw new Error("This browser can't unpack gzip, in which the model is packed: take Chrome or Edge 80, Firefox 113, Safari 16.4 or a newer one.");
    }
    for (const [name, file] of [["ort", "index.ort.js"], ["model", "index.model.js"]]) {
      if (!parts[name]) throw new Error(`${file} is missing beside this page, or damaged. Copy the whole folder anew.`);
    }
    say("The model is being loaded …");
    start();
    const exported = JSON.parse(parts.model.metadata.fiducial);
    const facts = await tell("start", { ort: { module: parts.ort.module, wasm: parts.ort.wasm }, model: parts.model.onnx, threads: threads(), outputs: exported.outputs, finds: Boolean(exported.finder), defaults: parts.model.defaults });
    place = `in this browser, ${facts.threads === 1 ? "one thread" : `${facts.threads} threads`}`;
    card = { ...exported.card, ...parts.model.about, heatmaps: false, finder: exported.finder };
    return card;
  }

  async function ask(still, box) {
    const { picture } = still, size = [picture.width, picture.height], start = performance.now();
    const { columns, found } = await tell("look", { picture, boxes: box ? [box] : [] });
    return answerOf(columns, card, size, performance.now() - start, found);
  }

  return { about, ask, tell, get where() { return place; } };
})();
