/** Who is told what, and when: listeners of a hub, and reads that go on. */

import { afterEach, describe, expect, it, vi } from "vitest";
import type { Event } from "../src/data/events.js";
import { changesOf } from "../src/data/events.js";
import { Hub } from "../src/store/hub.js";
import { Observed, type Source } from "../src/store/observed.js";

afterEach(() => vi.restoreAllMocks());

/** Lets all that is under way come to its end. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

describe("a hub", () => {
  it("tells all who listen, each as often as it asked, until it stops", () => {
    const hub = new Hub<string>();
    const heard: string[] = [];
    const listener = (said: string): unknown => heard.push(said);
    const stops = [hub.on(listener as () => void), hub.on(listener as () => void)];
    expect(hub.size).toBe(2);
    hub.publish("a");
    stops[0]?.();
    stops[0]?.();
    hub.publish("b");
    expect([hub.size, heard]).toEqual([1, ["a", "a", "b"]]);
    stops[1]?.();
    hub.publish("c");
    expect([hub.size, heard]).toEqual([0, ["a", "a", "b"]]);
  });

  it("tells the others where one fails, and says so", async () => {
    const hub = new Hub<object>();
    const heard: object[] = [];
    const failed = vi.spyOn(console, "error").mockImplementation(() => undefined);
    hub.on(() => {
      throw new Error("one");
    });
    hub.on(async () => Promise.reject(new Error("two")));
    hub.on((said) => void heard.push(said));
    hub.publish({ n: [1] });
    expect(heard).toEqual([{ n: [1] }]);
    expect(Object.isFrozen((heard[0] as { n: object }).n)).toBe(true);
    await rest();
    expect(failed.mock.calls.map(([, error]) => (error as Error).message)).toEqual(["one", "two"]);
    expect(failed.mock.calls[0]?.[0]).toContain("listener");
  });

  it("tells those who listened when it was said, also where one of them stops another", () => {
    const hub = new Hub<string>();
    const heard: string[] = [];
    hub.on((said) => {
      heard.push(`first ${said}`);
      stop();
      hub.on((later) => void heard.push(`third ${later}`));
    });
    const stop = hub.on((said) => void heard.push(`second ${said}`));
    hub.publish("a");
    expect(heard).toEqual(["first a", "second a"]);
  });
});

/** A read of a number, which tests set, and which fails or waits where they say so. */
class Counted extends Observed<number> {
  value = 1;
  reads = 0;
  begun = 0;
  gate: Promise<unknown> = Promise.resolve();

  protected override begin(): void {
    this.begun += 1;
  }

  protected concerns(event: Event): boolean {
    return event.kind === "changes";
  }

  protected async now(): Promise<number> {
    this.reads += 1;
    await this.gate;
    if (this.value < 0) throw new Error("no");
    return this.value;
  }
}

function counted(): { read: Counted; hub: Hub; change: (value: number) => Promise<void> } {
  const hub = new Hub();
  const source: Source = { read: () => Promise.reject(new Error("unused")), on: (to) => hub.on(to) };
  const read = new Counted(source);
  const change = async (value: number): Promise<void> => {
    read.value = value;
    hub.publish(changesOf([], "device", true));
    await rest();
  };
  return { read, hub, change };
}

describe("a read that goes on", () => {
  it("is awaited for its answer now", async () => {
    const { read, hub } = counted();
    expect(await read).toBe(1);
    read.value = 2;
    expect([await read, read.current, hub.size, read.begun]).toEqual([2, undefined, 0, 0]);
    read.value = -1;
    await expect(Promise.resolve(read)).rejects.toThrow("no");
  });

  it("tells its answer and each later one, and nothing that is the same", async () => {
    const { read, hub, change } = counted();
    const heard: number[] = [];
    const stop = read.subscribe((value) => heard.push(value));
    await rest();
    await change(2);
    await change(2);
    hub.publish({ kind: "presence", space: null, user: "u", client: "c", state: null });
    await rest();
    expect([heard, read.reads, read.current]).toEqual([[1, 2], 3, 2]);
    stop();
    await change(3);
    expect([heard, read.reads, hub.size]).toEqual([[1, 2], 3, 0]);
  });

  it("reads once for all, and tells a later one what is known", async () => {
    const { read, hub } = counted();
    const heard: string[] = [];
    const stops = [read.subscribe((value) => heard.push(`a${value}`))];
    stops.push(read.subscribe((value) => heard.push(`b${value}`)));
    await rest();
    expect([heard, read.begun]).toEqual([["a1", "b1"], 1]);
    stops.push(read.subscribe((value) => heard.push(`c${value}`)));
    const stopped = read.subscribe((value) => heard.push(`d${value}`));
    stopped();
    await rest();
    expect([heard, read.reads]).toEqual([["a1", "b1", "c1"], 1]);
    for (const stop of stops) {
      expect(hub.size).toBe(1);
      stop();
    }
    expect(hub.size).toBe(0);
  });

  it("begins anew after the last has gone, also with the same answer", async () => {
    const { read, change } = counted();
    const heard: number[] = [];
    read.subscribe((value) => heard.push(value))();
    await rest();
    expect(heard).toEqual([]);
    const stop = read.subscribe((value) => heard.push(value));
    await rest();
    stop();
    read.subscribe((value) => heard.push(value));
    await rest();
    expect([heard, read.begun]).toEqual([[1, 1], 3]);
    await change(5);
    expect(heard).toEqual([1, 1, 5]);
  });

  it("reads once more for all that changes while it reads", async () => {
    const { read, change } = counted();
    const heard: number[] = [];
    let open = (): void => undefined;
    read.gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const stop = read.subscribe((value) => heard.push(value));
    await change(2);
    await change(3);
    expect([heard, read.reads]).toEqual([[], 1]);
    open();
    await rest();
    expect([heard, read.reads]).toEqual([[3], 2]);
    stop();
  });

  it("tells nobody who has gone while it reads, and does not read again", async () => {
    const { read, change } = counted();
    const heard: number[] = [];
    let open = (): void => undefined;
    read.gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const stop = read.subscribe((value) => heard.push(value));
    await change(2);
    stop();
    open();
    await rest();
    expect([heard, read.current, read.reads]).toEqual([[], undefined, 1]);
  });

  it("says that it failed, and reads again at the next change", async () => {
    const { read, change } = counted();
    const failed = vi.spyOn(console, "error").mockImplementation(() => undefined);
    const heard: number[] = [];
    const stop = read.subscribe((value) => heard.push(value));
    await rest();
    await change(-1);
    expect([failed.mock.calls.length, failed.mock.calls[0]?.[0]]).toEqual([
      1,
      expect.stringContaining("read"),
    ]);
    await change(4);
    expect([heard, failed.mock.calls.length]).toEqual([[1, 4], 1]);
    stop();
  });
});
