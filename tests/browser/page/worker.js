// A service worker: the page opens without a network, and what it wrote is synced without a page.
import { Replica } from "@syncd/client";

const FILES = ["./", "./page.js"];

addEventListener("install", (event) => {
  event.waitUntil(caches.open("page").then((cache) => cache.addAll(FILES)).then(() => skipWaiting()));
});

addEventListener("activate", (event) => event.waitUntil(clients.claim()));

addEventListener("fetch", (event) => {
  if (new URL(event.request.url).origin !== location.origin) return;
  event.respondWith(caches.match(event.request, { ignoreSearch: true }).then((kept) => kept ?? fetch(event.request)));
});

addEventListener("message", (event) => {
  event.waitUntil(sync(event.data).then((answer) => event.ports[0].postMessage(answer)));
});

async function sync({ name, options }) {
  const replica = await Replica.open(name, options);
  try {
    const { pushed, pulled } = await replica.sync();
    return { pushed, pulled, client: replica.clientId };
  } catch (error) {
    return { error: String(error) };
  } finally {
    await replica.close();
  }
}
