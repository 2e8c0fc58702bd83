"use strict";
// Keeps the page for when there is no network: the files are taken from a cache that is renewed when the site is. Each goes
// out with the headers that let a page use several threads, which few servers send.
const CACHE = "fiducial-@digest@", FILES = @files@;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" })))));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    const own = (await caches.keys()).filter((name) => name.startsWith("fiducial-") && name !== CACHE);
    await Promise.all(own.map((name) => caches.delete(name)));
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url), folder = new URL("./", self.location.href);
  if (event.request.method !== "GET" || !url.href.startsWith(folder.href)) return;
  const name = url.pathname.slice(folder.pathname.length) || "index.html";
  if (!FILES.includes(name)) return;
  event.respondWith((async () => {
    const cache = await caches.open(CACHE), kept = (await cache.match(name)) ?? (await fetch(event.request));
    const headers = new Headers(kept.headers);
    headers.set("Cross-Origin-Opener-Policy", "same-origin");
    headers.set("Cross-Origin-Embedder-Policy", "require-corp");
    return new Response(kept.body, { status: kept.status, statusText: kept.statusText, headers });
  })());
});
