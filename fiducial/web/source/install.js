"use strict";
// On http pages alone: what makes the page one that is installed and works without a network. A file needs neither.
if (location.protocol.startsWith("http") && new URLSearchParams(location.search).get("offline") !== "no") {
  document.head.insertAdjacentHTML("beforeend", `<link rel="manifest" href="index.webmanifest">`);
  navigator.serviceWorker?.register("index.offline.js").catch(() => {});  // where it is not allowed, the page works all the same
}
