/** Functions of the application that never answer, stores that fail for a while, and lines that are slow. */

import { IDBFactory } from "fake-indexeddb";
import { afterEach, describe, expect, it, vi } from "vitest";
import {
  type Event,
  type Live,
  NotAllowed,
  Offline,
  type Replica,
  type RowStore,
  type RowWork,
  StoreFailed,
  SyncdError,
} from "../src/index.js";
import { MemoryStore } from "../src/store/memory.js";
import { LAYOUT } from "../src/store/store.js";
import { open, QUICK, until } from "./devices.js";
import { AT, page, results, Script, wire } from "./script.js";
import { changes, SocketScript } from "./socket-script.js";

const NEVER = (): Promise<never> => new Promise(() => undefined);
const SERVER = { url: "http://server/", token: "t", retry: { attempts: 1 }, webSocket: null };

afterEach(() => {
  vi.useRealTimers();
});

async function named(live: Live, name: string): Promise<void> {
  await until(`${name}, not ${live.state.name} ${live.state.code}`, () => live.state.name === name);
}

describe("a token function", () => {
  it.each<[string, () => string | null | Promise<string | null>, string]>([
    ["that never answers", NEVER, "no_token"],
    ["that says sign-in is needed", () => null, "no_token"],
    ["that gives an empty text", () => " \n", "no_token"],
    ["that raises NotAllowed", () => Promise.reject(new NotAllowed("sign in", "signed_out")), "no_token"],
    ["whose token no header can carry", () => "a\nb", "bad_token"],
    ["whose token is larger than a server takes", () => "x".repeat(16_385), "token_too_large"],
  ])("%s is a refusal, in a sync and live", async (_name, token, code) => {
    const replica = await open({ ...SERVER, token, fetch: new Script().fetch, callbackTimeout: 1000 });
    await replica.put("t", "a", { n: 1 });
    await expect(replica.sync()).rejects.toThrow(NotAllowed);
    expect((await replica.why("t", "a")).state).toBe("no_permission");
    const live = replica.live({ policy: QUICK });
    await named(live, "refused");
    expect(live.state.code).toBe(code);
  });

  it("that fails is tried again, and its own text is repeated nowhere but in the cause", async () => {
    const failure = new Error("canary");
    const token = (): Promise<string> => Promise.reject(failure);
    const replica = await open({ ...SERVER, token, fetch: new Script().fetch });
    const raised = await replica.sync().catch((error: unknown) => error);
    expect(raised).toBeInstanceOf(Offline);
    expect(raised).toMatchObject({ code: "no_token", cause: failure });
    expect(String((raised as Error).message)).not.toContain("canary");
    const live = replica.live({ policy: QUICK });
    await named(live, "offline");
    expect(JSON.stringify(live.state)).not.toContain("canary");
  });

  it("may give blanks around the token", async () => {
    const script = new Script();
    const replica = await open({ ...SERVER, token: () => " t\n", fetch: script.fetch });
    await replica.sync();
    expect(script.asked[0]?.headers.get("authorization")).toBe("Bearer t");
  });
});

describe("other functions of the application", () => {
  it("onMigrate that never answers: opening fails, and the next one begins again", async () => {
    const shared = { name: "migrated", indexedDB: new IDBFactory() };
    await (await open({ ...shared, schemaVersion: 1 })).close();
    const stuck = open({ ...shared, schemaVersion: 2, onMigrate: NEVER, callbackTimeout: 500 });
    await expect(stuck).rejects.toMatchObject({ code: "callback_timeout" });
    await expect(stuck).rejects.toBeInstanceOf(SyncdError);
    const onMigrate = vi.fn();
    await open({ ...shared, schemaVersion: 2, onMigrate });
    expect(onMigrate.mock.calls[0]?.[0]).toBe(1);
  });

  it("onConflict that never answers, or fails later, stops nothing", async () => {
    const told = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const script = new Script();
    const lost = { table: "t", id: "a", field: "n", clientValue: 1, serverValue: 2 };
    for (const onConflict of [NEVER, () => Promise.reject(new Error("later"))]) {
      const replica = await open({ ...SERVER, fetch: script.fetch, onConflict });
      await replica.put("t", "a", { n: 1 });
      script.answers.push((body) => results(body, "superseded", { conflicts: [lost] }));
      expect((await replica.sync()).conflicts).toHaveLength(1);
    }
    await until("reported", () => told.mock.calls.length === 1);
    told.mockRestore();
  });

  it("fetch that never answers, and heeds no signal, is a failed request", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const replica = await open({ ...SERVER, indexedDB: null, fetch: NEVER });
    const failed = expect(replica.sync()).rejects.toThrow(Offline);
    for (let n = 0; n < 40; n++) await vi.advanceTimersByTimeAsync(1000);
    await failed;
  });

  it.each(["read", "write"] as const)("a store whose %s never answers has failed", async (what) => {
    let stuck = false;
    const store = async (_name: string, prepare: RowWork<void>): Promise<RowStore> => {
      const rows = new MemoryStore(LAYOUT);
      await rows.write(prepare);
      const answer = rows[what].bind(rows);
      rows[what] = <T>(work: RowWork<T>): Promise<T> => (stuck ? NEVER() : answer(work));
      return rows;
    };
    const replica = await open({ store, callbackTimeout: 1000 });
    await replica.put("t", "a", { n: 1 });
    stuck = true;
    const asked = what === "read" ? replica.pending() : replica.put("t", "b", { n: 1 });
    await expect(asked).rejects.toMatchObject({ code: "store_failed" });
    stuck = false;
    await replica.put("t", "c", { n: 1 });
    const never = open({ store: NEVER, callbackTimeout: 30 });
    await expect(never).rejects.toThrow(StoreFailed);
  });
});

describe("a write of a store that is slow", () => {
  /** A replica whose store takes so many milliseconds, once, before or after the work of its next write. */
  async function slowly(): Promise<{ replica: Replica; slow: { before: number; after: number } }> {
    const slow = { before: 0, after: 0 };
    const pause = (which: "before" | "after"): Promise<void> => {
      const time = slow[which];
      slow[which] = 0;
      return time === 0 ? Promise.resolve() : new Promise((over) => setTimeout(over, time));
    };
    const store = async (_name: string, prepare: RowWork<void>): Promise<RowStore> => {
      const rows = new MemoryStore(LAYOUT);
      await rows.write(prepare);
      const write = rows.write.bind(rows);
      rows.write = async <T>(work: RowWork<T>): Promise<T> => {
        await pause("before");
        const answer = await write(work);
        await pause("after");
        return answer;
      };
      return rows;
    };
    return { replica: await open({ store, callbackTimeout: 1000 }), slow };
  }

  it("is not kept any more once it was said to have failed", async () => {
    const { replica, slow } = await slowly();
    slow.before = 1500;
    await expect(replica.put("t", "a", { n: 1 })).rejects.toMatchObject({ code: "store_failed" });
    await new Promise((over) => setTimeout(over, 1500));
    expect(await replica.pending()).toEqual([]);
    await replica.put("t", "b", { n: 1 });
    expect((await replica.pending()).map(({ id }) => id)).toEqual(["b"]);
  });

  it("is waited for where its work was done in time", async () => {
    const { replica, slow } = await slowly();
    slow.after = 1500; // more than the work has, and less than the work and the commit have
    await replica.put("t", "a", { n: 1 });
    expect((await replica.pending()).map(({ id }) => id)).toEqual(["a"]);
  });
});

describe("a store whose commit never comes", () => {
  /** A replica whose store, from `freeze` to `thaw`, ends none of its writes; what is asked later waits behind. */
  async function freezing(
    options: object,
  ): Promise<{ replica: Replica; freeze: () => void; thaw: () => void }> {
    let [frozen, thaw] = [Promise.resolve(), (): void => undefined];
    const freeze = (): void => {
      frozen = new Promise((resolve) => {
        thaw = resolve;
      });
    };
    const store = async (_name: string, prepare: RowWork<void>): Promise<RowStore> => {
      const rows = new MemoryStore(LAYOUT);
      await rows.write(prepare);
      const write = rows.write.bind(rows);
      rows.write = <T>(work: RowWork<T>): Promise<T> =>
        write(async (tx) => {
          const answer = await work(tx);
          await frozen;
          return answer;
        });
      return rows;
    };
    const replica = await open({ store, callbackTimeout: 1000, ...options });
    return { replica, freeze, thaw: () => thaw() };
  }

  it("says that nobody knows, and tells of the write when it comes after all", async () => {
    const { replica, freeze, thaw } = await freezing({});
    const told: Event[] = [];
    replica.on((event) => told.push(event));
    freeze();
    const written = replica.put("t", "a", { n: 1 });
    await expect(written).rejects.toBeInstanceOf(StoreFailed);
    await expect(written).rejects.toMatchObject({ code: "commit_unknown" });
    // What waits behind it has not begun, and is not kept later.
    await expect(replica.put("t", "b", { n: 1 })).rejects.toMatchObject({ code: "store_failed" });
    expect(told).toEqual([]);
    thaw();
    await until("it is told", () => told.length > 0);
    expect(told).toMatchObject([{ kind: "changes", everything: true }]);
    expect((await replica.pending()).map(({ id }) => id)).toEqual(["a"]);
  });

  it("ends a sync, a live sync and the replica", async () => {
    const server = new SocketScript();
    await server.start();
    const { replica, freeze, thaw } = await freezing({ url: server.url, token: "t" });
    const live = replica.live({ policy: { ...QUICK, longest: 60_000, first: 60_000 } });
    await named(live, "live");
    freeze();
    server.say(changes([wire("a", { n: [1, AT] })]));
    await named(live, "busy");
    // What waits behind the commit may be given up before it.
    expect(["commit_unknown", "store_failed"]).toContain(live.state.code);
    await live.close();
    await expect(replica.sync()).rejects.toThrow(StoreFailed);
    await replica.close();
    thaw();
    await server.stop();
  });

  it("is raised by a sync whose answer may be kept", async () => {
    const script = new Script();
    const { replica, freeze, thaw } = await freezing({ ...SERVER, fetch: script.fetch });
    script.answers.push(() => {
      freeze();
      return page([wire("a", { n: [1, AT] })]);
    });
    await expect(replica.pull()).rejects.toMatchObject({ code: "commit_unknown" });
    await replica.close();
    thaw();
  });
});

describe("a store that is full", () => {
  /** A store in memory that has no room while `full`. */
  function limited(): { store: (name: string, prepare: RowWork<void>) => Promise<RowStore>; full: boolean } {
    const disk = {
      full: false,
      store: async (_name: string, prepare: RowWork<void>): Promise<RowStore> => {
        const rows = new MemoryStore(LAYOUT);
        await rows.write(prepare);
        const write = rows.write.bind(rows);
        rows.write = <T>(work: RowWork<T>): Promise<T> =>
          write(async (tx) => {
            const put = tx.put.bind(tx);
            tx.put = (...row) => {
              if (disk.full) throw Object.assign(new Error("no room"), { code: "ENOSPC" });
              put(...row);
            };
            return work(tx);
          });
        return rows;
      },
    };
    return disk;
  }

  it("says so, and goes on as soon as there is room", async () => {
    const server = new SocketScript();
    await server.start();
    const disk = limited();
    const replica: Replica = await open({ url: server.url, token: "t", store: disk.store });
    const live = replica.live({
      policy: { ...QUICK, refusedInterval: 60_000, longest: 60_000, first: 60_000 },
    });
    await named(live, "live");
    disk.full = true;
    await expect(replica.put("t", "a", { n: 1 })).rejects.toMatchObject({ code: "storage_full" });
    await expect(replica.put("t", "a", { n: 1 })).rejects.toThrow(StoreFailed);
    const at = "2026-01-01T10:00:00Z";
    server.say(
      changes([{ table: "t", id: "b", op: "update", clientId: "c", fields: { n: { value: 1, at } } }]),
    );
    await named(live, "busy");
    expect(live.state.code).toBe("storage_full");
    const since = Date.now();
    disk.full = false;
    await named(live, "live");
    expect(Date.now() - since).toBeLessThan(30_000);
    await replica.close();
    await server.stop();
  });

  it("is left alone for as long where it polls", async () => {
    const disk = limited();
    const replica = await open({ ...SERVER, store: disk.store, fetch: new Script().fetch });
    await replica.put("t", "a", { n: 1 });
    disk.full = true;
    const live = replica.live({
      policy: { ...QUICK, refusedInterval: 60_000, longest: 60_000, first: 60_000 },
    });
    await named(live, "busy");
    expect(live.state.code).toBe("storage_full");
    expect((await replica.why("t", "a")).state).toBe("waiting");
    disk.full = false;
    await named(live, "polling");
  });

  it.each([
    ["database or disk is full", "storage_full"],
    ["SQLITE_FULL: 13", "storage_full"],
    ["ENOSPC: no space left on device", "storage_full"],
    ["the request could not be fulfilled", "store_failed"],
  ])("is known by what the store says: %s", (said, code) => {
    expect(new StoreFailed(new Error(said)).code).toBe(code);
  });

  it("in IndexedDB is known by the browser's word for it", async () => {
    const replica = await open({
      store: async () => Promise.reject(new DOMException("", "QuotaExceededError")),
    }).catch((error: unknown) => error);
    expect(replica).toMatchObject({ code: "storage_full" });
  });
});

it("what a page answers moves for as long as it comes", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const text = JSON.stringify(page());
  const slow = async (): Promise<Response> => {
    let place = 0;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 20_000));
        if (place >= text.length) return controller.close();
        controller.enqueue(new TextEncoder().encode(text.slice(place, place + 20)));
        place += 20;
      },
    });
    return new Response(body);
  };
  const replica = await open({ ...SERVER, indexedDB: null, fetch: slow });
  const synced = replica.sync();
  for (let n = 0; n < 20; n++) await vi.advanceTimersByTimeAsync(10_000);
  expect(await synced).toMatchObject({ requests: 1 });
});
