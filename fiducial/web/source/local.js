"use strict";
// The backend of a page without a server: ONNX Runtime Web and the model lie beside it, and answer in a worker. What it
// offers is what `server.js` offers. `fiducialParts` is filled by the scripts before this one.
const backend = (() => {
  const parts = fiducialParts, chosen = new URLSearchParams(location.search);
  let tell = null, loading = null, card = null, facts = null, gpu = null;

  // (module (func (result v128) i32.const 0 i8x16.splat))
  const simd = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11]);

  // Starts a worker with a runtime's script; tell(kind, content, what is handed over to it) -> its answer.
  function started(script) {
    const worker = new Worker(URL.createObjectURL(new Blob([script, "\n", parts.worker], { type: "text/javascript" })));
    const waiting = new Map();
    let count = 0;
    worker.addEventListener("message", ({ data }) => {
      const { resolve, reject } = waiting.get(data.number);
      waiting.delete(data.number);
      if (data.error === undefined) resolve(data.answer); else reject(new Error(data.error));
    });
    worker.addEventListener("error", (event) => {
      for (const { reject } of waiting.values()) reject(new Error(`The model's program broke off: ${event.message || "out of memory?"} Load the page anew.`));
      waiting.clear();
    });
    return (kind, content, moved = []) => new Promise((resolve, reject) => {
      const number = ++count;
      waiting.set(number, { resolve, reject });
      worker.postMessage({ number, kind, content }, moved);
    });
  }

  const damaged = (file) => `${file} is missing beside this page, or damaged. Copy the whole folder anew.`;

  // The browser's own GPU, and WebAssembly that can wait for it. `?gpu=no` does without, `?gpu=yes` takes it where it is slower.
  async function mayUseGpu() {
    if (chosen.get("gpu") === "no" || !navigator.gpu || typeof WebAssembly.Suspending !== "function") return false;
    return Boolean(await navigator.gpu.requestAdapter().catch(() => null));
  }

  // A runtime in a script beside the page.
  async function runtime(name) {
    const file = `index.${name}.js`;
    await new Promise((resolve) => {
      const element = document.createElement("script");
      element.src = file;
      element.addEventListener("load", resolve);
      element.addEventListener("error", resolve);
      document.head.appendChild(element);
    });
    if (!parts[name]) throw new Error(damaged(file));
    return { ...parts[name], file };
  }

  // Beside the page's work: the network on the GPU, where that finds the same points and is quicker.
  async function tryGpu() {
    if (parts.model.chain.length < 3 || !await mayUseGpu()) return;  // one of whole numbers is not split
    try {
      const { script: code, ...ort } = await runtime("gpu"), { port1, port2 } = new MessageChannel();
      await started(code)("serve", { ort, network: parts.model.chain[1], port: port1 }, [port1]);
      gpu = await tell("gpu", { size: card.spec.size, port: port2, always: chosen.get("gpu") === "yes" }, [port2]);
    } catch (error) {
      gpu = { used: false, error: error.message };
    }
    if (gpu.error) console.info(`WebGPU is not used: ${gpu.error}`);
  }

  // Half of the cores: threads of which one waits for its turn are slower than one alone.
  function threads() {
    if (!self.crossOriginIsolated) return 1;
    return Number(chosen.get("threads")) || Math.min(4, Math.ceil((navigator.hardwareConcurrency || 1) / 2));
  }

  const about = (say) => (loading ??= load(say));

  async function load(say) {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(simd)) {
      throw new Error("This browser has no WebAssembly with SIMD, which the model needs: take Chrome or Edge 91, Firefox 89, Safari 16.4 or a newer one.");
    }
    if (typeof DecompressionStream !== "function") {
      throw new Error("This browser can't unpack gzip, in which the model is packed: take Chrome or Edge 80, Firefox 113, Safari 16.4 or a newer one.");
    }
    if (!parts.model) throw new Error(damaged("index.model.js"));
    say("The model is being loaded …");
    const { script: code, ...ort } = await runtime("ort");
    const exported = JSON.parse(parts.model.metadata.fiducial), { defaults, empty, chain } = parts.model;
    tell = started(code);
    facts = await tell("start", { ort, model: { chain, defaults, empty }, threads: threads(), outputs: exported.outputs, finds: Boolean(exported.finder) });
    card = { ...exported.card, ...parts.model.about, heatmaps: false, finder: exported.finder };
    tryGpu();
    return card;
  }

  async function ask(still, box) {
    const { picture } = still, size = [picture.width, picture.height], start = performance.now();
    const { columns, found } = await tell("look", { picture, boxes: box ? [box] : [] });
    return answerOf(columns, card, size, performance.now() - start, found);
  }

  function where() {
    if (gpu?.used) return "in this browser, on the GPU";
    return `in this browser, ${facts.threads === 1 ? "one thread" : `${facts.threads} threads`}`;
  }

  return { about, ask, tell: (...question) => tell(...question), get where() { return where(); }, get gpu() { return gpu; } };
})();
