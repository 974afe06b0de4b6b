// The least page that has a replica: the tests call what it puts into the window.
import { Replica } from "@syncd/client";
import { search } from "../../../clients/typescript/src/search/index.js";

window.events = [];
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map(({ duration }) => duration))).observe({
  type: "longtask",
});

window.openReplica = async (name, options) => {
  window.replica = await Replica.open(name, options);
  window.replica.on((event) => window.events.push({ ...event, keys: event.keys?.length ?? 0 }));
};

window.search = search;
window.found = async (table, text, options) =>
  (await search(window.replica, table, text, options)).map(({ id }) => id);

window.goLive = () => {
  window.live = window.replica.live({ policy: { first: 50, longest: 500 } });
};

// The page's worker keeps the page for when there is no network, and can sync without a page.
window.install = async () => {
  await navigator.serviceWorker.register("./worker.js");
  await navigator.serviceWorker.ready;
};

window.askWorker = async (name, options) => {
  const { active } = await navigator.serviceWorker.ready;
  const { port1, port2 } = new MessageChannel();
  const answer = new Promise((resolve) => {
    port1.onmessage = ({ data }) => resolve(data);
  });
  active.postMessage({ name, options }, [port2]);
  return answer;
};

window.ready = true;
