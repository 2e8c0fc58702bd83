"use strict";
// Beside a page of `fiducial export --to web` that Python opened (browser.py): takes questions from there, has them answered
// by what the page itself uses, and sends the answers back. A message is the length of its JSON (4 bytes), the JSON, and
// the bytes of its tensors or picture.
(async () => {
  const place = new URL("./", document.currentScript.src).href;
  const kinds = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array, int64: BigInt64Array };

  function messageOf(about, tensors) {
    const head = new TextEncoder().encode(JSON.stringify({ ...about, tensors: tensors.map(([name, { type, dims }]) => ({ name, type, dims })) }));
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, head.length, true);
    return new Blob([length, head, ...tensors.map(([, { data }]) => data)]);
  }

  function contentOf(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const about = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    let at = 4 + length;
    const feed = {};
    for (const { name, type, dims } of about.tensors) {
      const kind = kinds[type], count = dims.reduce((product, side) => product * side, 1), end = at + count * kind.BYTES_PER_ELEMENT;
      feed[name] = { type, dims, data: new kind(buffer.slice(at, end)) };
      at = end;
    }
    return { ...about, feed, rest: buffer.slice(at) };
  }

  // With how long the page worked on it, and how long it has been open, ms.
  async function answered(question) {
    const begin = performance.now();
    const timed = (tensors) => messageOf({ ms: performance.now() - begin, open_ms: performance.now() }, tensors);
    try {
      if (question.kind === "start") {
        await backend.about(() => {});
        return timed([]);
      }
      if (question.kind === "run") return timed(Object.entries(await backend.tell("run", question)));
      const picture = await readPicture(new Blob([question.rest]));
      return timed(Object.entries((await backend.tell("look", { picture, boxes: question.boxes })).columns));
    } catch (error) {
      return messageOf({ error: error.message || String(error) }, []);
    }
  }

  for (;;) {
    let response;
    try {
      response = await fetch(`${place}next`);
    } catch (error) {
      window.close();  // whoever asked has ended
      return;
    }
    if (response.status !== 200) continue;
    const question = contentOf(await response.arrayBuffer());
    await fetch(`${place}answer`, { method: "POST", body: await answered(question) });
  }
})();
