/** One question to the server: what is sent, with whose token, how fast, and what becomes of its answer. Without a socket. */

import { describe, expect, it } from "vitest";
import {
  BadReply,
  InvalidQuery,
  NotAllowed,
  Offline,
  Refused,
  ServerBusy,
  SyncdError,
  WrongReplica,
} from "../src/index.js";
import { Pace, pacesOf } from "../src/sync/pace.js";
import { type ApiCall, type ApiClient, ask, segment } from "../src/sync/request.js";
import { type Locks, Tabs } from "../src/sync/tabs.js";
import { claim, freshToken, type Token, usersOf } from "../src/sync/tokens.js";
import { problem } from "./script.js";

describe("a pace", () => {
  it.each<[number, number, number]>([
    [10, 100, 10],
    [100, 100, 100],
    [101, 100, 100],
    [5, 0, 1],
  ])("that begins with %d of %d is %d", (first, most, size) => {
    expect(new Pace(first, most).size).toBe(size);
  });

  it.each<[string, [number, number][], number]>([
    ["grows fourfold at most", [[10, 100]], 40],
    ["grows as far as the goal takes", [[10, 500]], 20],
    ["stays where the goal is just met", [[10, 1000]], 10],
    ["grows to what went through where the goal is just met", [[20, 1000]], 20],
    [
      "never grows beyond the most",
      [
        [10, 1],
        [40, 1],
        [100, 1],
      ],
      100,
    ],
    [
      "grows where half of it went through",
      [
        [10, 200],
        [20, 250],
      ],
      80,
    ],
    [
      "stays where less than half went through",
      [
        [10, 200],
        [19, 250],
      ],
      40,
    ],
    ["stays where little went through slowly, but in time", [[5, 1000]], 10],
    [
      "shrinks by how much it was late",
      [
        [10, 100],
        [40, 2000],
      ],
      20,
    ],
    ["shrinks from one millisecond late", [[10, 1001]], 9],
    ["is never less than one", [[10, 1e9]], 1],
    ["takes no time for a millisecond", [[10, 0]], 40],
  ])("%s", (_, steps, size) => {
    const pace = new Pace(10, 100, 1000);
    for (const [amount, time] of steps) pace.took(amount, time);
    expect(pace.size).toBe(size);
  });

  it("is halved by a failure, and is never less than one", () => {
    const pace = new Pace(5, 10);
    const sizes = [1, 2, 3].map(() => {
      pace.failed();
      return pace.size;
    });
    expect(sizes).toEqual([2, 1, 1]);
  });

  it.each<[number, number, number]>([
    [0, 0, 1000],
    [4, 1, 1000],
    [8, 1, 500],
    [2, 1, 1000],
    [400, 10, 100],
  ])("that carried %d in %d ms allows 1,000 bytes %d ms", (amount, time, allowed) => {
    const pace = new Pace(10, 1000);
    if (amount > 0) pace.took(amount, time);
    expect(pace.allowance(1000)).toBe(allowed);
  });

  it("of a replica keeps to its limits, a socket's to less", () => {
    const sizes = (limits: { pushBytes: number; pullLimit: number }): number[] => {
      const { push, socket, pull } = pacesOf(limits);
      return [push.size, socket.size, pull.size];
    };
    expect(sizes({ pushBytes: 1 << 20, pullLimit: 1000 })).toEqual([65_536, 32_768, 250]);
    expect(sizes({ pushBytes: 1000, pullLimit: 10 })).toEqual([1000, 1000, 10]);
    const { push, socket, pull } = pacesOf({ pushBytes: 1 << 20, pullLimit: 1000 });
    for (const pace of [push, socket, pull]) for (let n = 0; n < 9; n++) pace.took(pace.size, 1);
    expect([push.size, socket.size, pull.size]).toEqual([1 << 20, 262_144, 1000]);
    for (const pace of [push, socket, pull]) pace.took(pace.size, 10_000);
    expect([push.size, socket.size, pull.size]).toEqual([1 << 20, 131_072, 1000]);
  });
});

/** A JWT of these claims, unsigned, with the letters that only base64 of addresses has. */
function jwt(claims: object | string): string {
  const text = typeof claims === "string" ? claims : JSON.stringify(claims);
  return `h.${Buffer.from(text).toString("base64url")}.s`;
}

describe("a token", () => {
  const SUB = "\u00ff\u00fe>>>???~~\u{1f600}";

  async function fresh(token: Token, timeout = 1000): Promise<[string, string[]]> {
    const users: string[] = [];
    const given = await freshToken({ token, timeout }, async (user) => void users.push(user));
    return [given, users];
  }

  it("claims what it claims, and nothing where it is none", () => {
    expect(claim(jwt({ sub: SUB, n: 1 }), "sub")).toBe(SUB);
    expect(claim(jwt({ sub: SUB, n: 1 }), "n")).toBe(1);
    const none = ["", "t", "a.b", "a.%.c", jwt("null"), jwt("{"), jwt({})];
    expect(none.map((token) => claim(token, "sub"))).toEqual(none.map(() => undefined));
  });

  it("is given or asked for, and used without the blanks around it", async () => {
    expect(await fresh(" t\n")).toEqual(["t", []]);
    expect(await fresh(() => "t ")).toEqual(["t", []]);
    expect(await fresh(async () => jwt({ sub: "ann" }))).toEqual([jwt({ sub: "ann" }), ["ann"]]);
    expect(await fresh(jwt({ sub: 7 }))).toEqual([jwt({ sub: 7 }), []]);
    expect(await fresh("x".repeat(16_384))).toEqual(["x".repeat(16_384), []]);
    expect(await fresh("!~")).toEqual(["!~", []]);
  });

  it.each<[string, Token, string]>([
    ["empty", "", "no_token"],
    ["blank", " \n", "no_token"],
    ["null", () => null, "no_token"],
    ["undefined", async () => undefined, "no_token"],
    ["a number", (() => 7) as unknown as Token, "no_token"],
    ["too large", "x".repeat(16_385), "token_too_large"],
    ["of two lines", "a\nb", "bad_token"],
    ["of two words", "a b", "bad_token"],
    ["of letters that no header has", "a\u00e9", "bad_token"],
    ["beyond the last one", "a\x7f", "bad_token"],
  ])("that is %s is refused", async (_, token, code) => {
    await expect(fresh(token)).rejects.toMatchObject({ code });
    await expect(fresh(token)).rejects.toBeInstanceOf(NotAllowed);
  });

  it("that does not come in time is none, and one that fails may come later", async () => {
    const never = (): Promise<string> => new Promise(() => {});
    await expect(fresh(never, 5)).rejects.toMatchObject({ code: "no_token" });
    await expect(fresh(never, 5)).rejects.toBeInstanceOf(NotAllowed);
    const over = async (): Promise<string> => Promise.reject(new NotAllowed("the session is over."));
    await expect(fresh(over)).rejects.toMatchObject({ code: "no_token", detail: "the session is over." });
    const failing = async (): Promise<string> => Promise.reject(new TypeError("secret"));
    await expect(fresh(failing)).rejects.toMatchObject({
      code: "no_token",
      detail: expect.not.stringContaining("secret"),
    });
    await expect(fresh(failing)).rejects.toBeInstanceOf(Offline);
    const thrown = (): never => {
      throw new SyncdError("own", "own");
    };
    await expect(fresh(thrown)).rejects.toMatchObject({ code: "own" });
    const other = freshToken({ token: jwt({ sub: "ann" }), timeout: 1 }, async () => {
      throw new WrongReplica("of another user");
    });
    await expect(other).rejects.toBeInstanceOf(WrongReplica);
  });

  it("says whose a replica is, beside what the application says", () => {
    expect(usersOf({ user: "ann", token: jwt({ sub: "bo" }) })).toEqual(["ann", "bo"]);
    expect(usersOf({ token: () => jwt({ sub: "bo" }) })).toEqual([]);
    expect(usersOf({ token: "t" })).toEqual([]);
    expect(usersOf({})).toEqual([]);
  });
});

describe("a question", () => {
  interface Asked {
    readonly url: string;
    readonly init: RequestInit & { headers: { [name: string]: string } };
  }

  function client(
    answers: (Response | Error)[],
    part: Partial<ApiClient> = {},
  ): { asked: Asked[]; tokens: string[]; api: ApiClient } {
    const [asked, tokens]: [Asked[], string[]] = [[], []];
    const fetched = async (url: unknown, init: unknown): Promise<Response> => {
      asked.push({ url, init } as Asked);
      const answer = answers.shift() ?? new Response("{}");
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const api: ApiClient = {
      app: "an app/",
      client: "me",
      server: { url: "http://server", token: "t", timeout: 1000, fetch: fetched as typeof fetch },
      retry: { attempts: 3, first: 1, longest: 2, patience: 50 },
      closing: new AbortController().signal,
      fresh: async () => {
        tokens.push(`t${tokens.length}`);
        return tokens.at(-1) as string;
      },
      ...part,
    };
    return { asked, tokens, api };
  }

  const GET: ApiCall = { method: "GET", path: "/digest", params: { since: "a b" } };
  const json = (value: unknown, status = 200): Response => new Response(JSON.stringify(value), { status });

  it("goes to the app, or to the server itself, with a token", async () => {
    const { asked, api } = client([json({ n: 1 }), json({ n: 2 })]);
    expect(await ask(api, GET)).toEqual({ n: 1 });
    expect(await ask(api, { method: "PUT", path: "/own", own: true, params: {}, body: "{}" })).toEqual({
      n: 2,
    });
    expect(asked.map(({ url }) => url)).toEqual([
      "http://server/sync/an%20app%2F/digest?since=a+b",
      "http://server/own?",
    ]);
    expect(asked.map(({ init }) => [init.method, init.body, init.cache])).toEqual([
      ["GET", null, "no-store"],
      ["PUT", "{}", "no-store"],
    ]);
    const plain = { "X-Sync-Protocol": "1", "Content-Type": "application/json" };
    expect(asked.map(({ init }) => init.headers)).toEqual([
      { ...plain, Authorization: "Bearer t0" },
      { ...plain, Authorization: "Bearer t1" },
    ]);
  });

  it("may be answered with nothing, and not with what is no object", async () => {
    expect(await ask(client([new Response(null, { status: 204 })]).api, GET)).toEqual({});
    await expect(ask(client([json([1])]).api, GET)).rejects.toBeInstanceOf(BadReply);
    await expect(ask(client([new Response("{")]).api, GET)).rejects.toMatchObject({ garbled: true });
    await expect(ask(client([new Response("{}", { status: 299 })]).api, GET)).resolves.toEqual({});
    await expect(ask(client([new Response("{}", { status: 300 })]).api, GET)).rejects.toBeInstanceOf(Refused);
  });

  it("asks for another token once", async () => {
    const once = client([problem(401, "expired"), json({ n: 1 })]);
    expect(await ask(once.api, GET)).toEqual({ n: 1 });
    expect(once.tokens).toEqual(["t0", "t1"]);
    const twice = client([problem(401, "expired"), problem(401, "expired")]);
    const refused = ask(twice.api, GET);
    await expect(refused).rejects.toMatchObject({ code: "expired" });
    await expect(refused).rejects.toBeInstanceOf(NotAllowed);
    await expect(ask(client([problem(403, "forbidden")]).api, GET)).rejects.toBeInstanceOf(NotAllowed);
    expect(twice.asked).toHaveLength(2);
  });

  it("that is refused says why, and which change is at fault", async () => {
    const { asked, api } = client([problem(409, "conflict", ["/changes/1"])]);
    const refused = ask(api, GET);
    await expect(refused).rejects.toBeInstanceOf(Refused);
    await expect(refused).rejects.toMatchObject({
      code: "conflict",
      status: 409,
      blamed: new Map([[1, { code: "conflict", detail: "bad: /changes/1 (/changes/1)" }]]),
    });
    expect(asked).toHaveLength(1);
  });

  it("is repeated while the failure passes by itself", async () => {
    const { asked, api } = client([problem(503, "busy"), new TypeError("reset"), json({ n: 1 })]);
    expect(await ask(api, GET)).toEqual({ n: 1 });
    expect(asked).toHaveLength(3);
    const busy = client([1, 2, 3].map(() => problem(503, "busy")));
    await expect(ask(busy.api, GET)).rejects.toMatchObject({ code: "busy", retryAfter: null });
    expect(busy.asked).toHaveLength(3);
    const long = client([problem(429, "too_many", [], { "retry-after": "60" })]);
    await expect(ask(long.api, GET)).rejects.toMatchObject({ code: "too_many", retryAfter: 60_000 });
    await expect(ask(long.api, GET)).resolves.toEqual({});
    const gone = client([1, 2, 3].map(() => new TypeError("reset")));
    await expect(ask(gone.api, GET)).rejects.toMatchObject({ code: "offline", cause: expect.any(TypeError) });
    expect([long.asked.length, gone.asked.length]).toEqual([2, 3]);
    expect(await ask(gone.api, GET).catch((error: unknown) => error)).toEqual({});
    await expect(
      ask(client([problem(500, "internal")], { retry: { ...api.retry, attempts: 1 } }).api, GET),
    ).rejects.toBeInstanceOf(ServerBusy);
  });

  it("ends with what asks it", async () => {
    const closing = new AbortController();
    const { asked, api } = client([problem(503, "busy")], { closing: closing.signal });
    closing.abort();
    await expect(ask(api, GET)).rejects.toBeInstanceOf(SyncdError);
    expect(asked.length).toBeLessThanOrEqual(1);
  });

  it("names in its address what addresses do not lose", () => {
    expect(segment("the id", "a/b ?\u00e9")).toBe("a%2Fb%20%3F%C3%A9");
    for (const id of [".", "..", "", "\ud800"]) expect(() => segment("the id", id)).toThrow(InvalidQuery);
  });
});

describe("the lead of a store", () => {
  const signal = (): AbortSignal => new AbortController().signal;

  it("is one's own where no tab can share it, one after the other", async () => {
    const tabs = new Tabs("alone", false, undefined);
    const first = await tabs.lead(signal());
    let second: unknown = "waits";
    const waiting = tabs.lead(signal(), true).then((release) => {
      second = release;
    });
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect([typeof first, second]).toEqual(["function", "waits"]);
    first?.();
    await waiting;
    expect(typeof second).toBe("function");
    tabs.close();
  });

  it("is null for who waits no more, and goes to the next", async () => {
    const tabs = new Tabs("alone", false, undefined);
    const first = await tabs.lead(signal());
    const tired = new AbortController();
    const never = tabs.lead(tired.signal);
    const next = tabs.lead(signal());
    tired.abort();
    expect(await never).toBeNull();
    first?.();
    expect(typeof (await next)).toBe("function");
  });

  it("is asked of the locks by the store's name, and given back to them", async () => {
    const asked: [string, object][] = [];
    let held: Promise<void> | undefined;
    const locks: Locks = {
      request: async (name, options, hold) => {
        asked.push([name, options]);
        held = hold({});
        return held;
      },
    };
    const tabs = new Tabs("store", true, locks);
    const waits = signal();
    const release = await tabs.lead(waits);
    let over = false;
    void held?.then(() => {
      over = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 1));
    expect(over).toBe(false);
    release?.();
    await held;
    await tabs.lead(signal(), true);
    expect(asked).toEqual([
      ["store", { signal: waits }],
      ["store", { ifAvailable: true }],
    ]);
    tabs.close();
  });

  it("is null where somebody has it, where asking fails, and when it comes too late", async () => {
    const locked = (request: Locks["request"]): Tabs => new Tabs("store", false, { request });
    const late = new AbortController();
    const all = [
      locked(async (_, __, hold) => hold(null)).lead(signal(), true),
      locked(async () => Promise.reject(new Error("no"))).lead(signal()),
      locked(() => {
        throw new Error("no");
      }).lead(signal()),
      locked(async (_, __, hold) => {
        late.abort();
        await hold({}); // is given back at once
      }).lead(late.signal),
    ];
    expect(await Promise.all(all)).toEqual([null, null, null, null]);
  });

  it("is told of to the other tabs of a store, and to no others", async () => {
    const [one, two, other, apart] = [
      new Tabs("shared", true, undefined),
      new Tabs("shared", true, undefined),
      new Tabs("other", true, undefined),
      new Tabs("shared", false, undefined),
    ];
    const heard: string[] = [];
    for (const [name, tabs] of Object.entries({ one, two, other, apart }))
      tabs.on(({ kind }) => void heard.push(`${name} ${kind}`));
    one.post({ kind: "hello" });
    apart.post({ kind: "hello" });
    while (heard.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(heard).toEqual(["two hello"]);
    for (const tabs of [one, two, other, apart]) tabs.close();
    one.post({ kind: "hello" });
    one.close();
  });
});
