"use strict";
// The backend of `fiducial serve`: the page asks the server that it came from. What it offers is what `local.js` offers:
// where, about() -> the card, ask(still, box, heatmap) -> an answer; errors are Errors whose message is for people.
const backend = (() => {
  const silent = "The server does not answer. Is it still running?";
  document.querySelector("main").insertAdjacentHTML("beforebegin", `
    <form id="knock" class="bar" hidden>
      <label>the server's token <input id="token" type="password" autocomplete="current-password" required></label>
      <button>go on</button>
    </form>`);
  const knock = document.getElementById("knock"), token = document.getElementById("token");
  knock.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("token", token.value.trim());
    token.value = "";
    begin();
  });

  // With the token, where the server has one; it is asked for when the server wants another.
  async function request(path, options = {}) {
    const token = sessionStorage.getItem("token");
    const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      throw new Error(silent);
    }
    knock.hidden = response.status !== 401;
    return response;
  }

  async function about() {
    const response = await request("model");
    if (response.status === 401) throw new Error("This server wants its token.");
    if (!response.ok) throw new Error(`The server refused: error ${response.status}`);
    return response.json();
  }

  // A frame of a video goes as JPEG, what the server does not read as PNG.
  async function bytesOf({ file, picture }) {
    if (file && ["image/jpeg", "image/png", "image/webp"].includes(file.type)) return file;
    const copy = new OffscreenCanvas(picture.width, picture.height);
    copy.getContext("2d").drawImage(picture, 0, 0);
    return copy.convertToBlob(file ? { type: "image/png" } : { type: "image/jpeg", quality: 0.9 });
  }

  async function ask(still, box, heatmap) {
    const query = new URLSearchParams();
    if (box) query.set("boxes", JSON.stringify([box]));
    if (heatmap) query.set("heatmap", "true");
    const body = await bytesOf(still);
    const response = await request(`predict?${query}`, { method: "POST", body, headers: { "Content-Type": "application/octet-stream" } });
    let found;
    try {
      found = await response.json();
    } catch (error) {
      throw new Error(silent);
    }
    if (!response.ok) throw new Error(`The server refused: ${found.detail ?? `error ${response.status}`}`);
    return found;
  }

  return { about, ask, where: "on the server" };
})();
