// Keeps the application's own files, so that the page opens without a network; the data is in the database anyway.

const CACHE = "shopping";
const FILES = ["index.html", "style.css", "dist/app.js", "dist/worker-text.js", "dist/crsql-text.wasm"];

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The network first, so that nobody is stuck with an old version; what it answered is kept for when it does not.
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(
    fetch(request).then(
      async (answer) => {
        if (answer.ok) await (await caches.open(CACHE)).put(request, answer.clone());
        return answer;
      },
      async () => (await caches.match(request.mode === "navigate" ? "index.html" : request)) ?? Response.error(),
    ),
  );
});
