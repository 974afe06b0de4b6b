/**
 * Devices that choose, write, lose answers and are killed in any order: each has what the whole one has of its choice. SEED repeats a
 * run, SEEDS makes it longer.
 */

import { afterAll, beforeAll, expect, it } from "vitest";
import { type Replica, SyncdError } from "../src/index.js";
import { verify } from "../src/verify.js";
import { type Choice, Devices, shown, TABLES } from "./partials.js";
import { RealServer } from "./server.js";

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000_007);
const SEEDS = Number(process.env.SEEDS ?? 1);
const STEPS = 40;

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start();
});
afterAll(() => server.remove());

/** The devices of one user, in ten spaces: more than the server reads in one way. */
class World {
  readonly devices = new Devices(server);
  readonly choices = new Map<string, Choice>([
    ["one", {}],
    ["two", {}],
  ]);
  readonly parts = new Map<string, Replica>();
  readonly written = new Map<string, number>();
  spaces: (string | null)[] = [];
  whole!: Replica;
  #state: number;
  #limits = {};

  constructor(seed: number) {
    this.#state = (seed % 2_147_483_646) + 1;
  }

  /** A whole number below `limit` (a linear congruential generator: the same run for the same seed). */
  random(limit: number): number {
    this.#state = (this.#state * 48_271) % 2_147_483_647;
    return this.#state % limit;
  }

  one<T>(all: readonly T[]): T {
    return all[this.random(all.length)] as T;
  }

  #some<T>(names: readonly T[]): readonly T[] | "all" {
    if (this.random(3) === 0) return "all";
    const start = this.random(names.length);
    return names.slice(start, start + 1 + this.random(names.length - start));
  }

  async begin(): Promise<void> {
    this.spaces = [null, ...(await Promise.all(Array.from({ length: 9 }, () => this.devices.space())))];
    this.#limits = { limits: { pullLimit: this.one([2, 5, 1000]) } };
    this.whole = await this.devices.open();
    for (const name of this.choices.keys()) await this.#open(name);
  }

  async #open(name: string, choice?: Choice): Promise<void> {
    this.parts.set(name, await this.devices.open(name, choice, this.#limits));
  }

  #choice(name: string): Choice {
    const choice = { spaces: this.#some(this.spaces), tables: this.#some(TABLES) };
    this.choices.set(name, choice);
    return choice;
  }

  /** Opens it again, or is another tab that is opened; now and then it is killed, and opened as it was. */
  async choose(name: string): Promise<void> {
    const how = this.random(4);
    if (how === 0) return this.devices.choose(name, this.#choice(name));
    await this.parts.get(name)?.close();
    await this.#open(name, how === 1 ? undefined : this.#choice(name));
  }

  async write(replica: Replica, step: number): Promise<void> {
    const [space, table, id] = [this.one(this.spaces), this.one(TABLES), `r${this.random(4)}`];
    const how = this.random(10);
    const wrote =
      how < 2
        ? replica.delete(table, `d${id}`, { space, upsert: true })
        : replica.put(table, how < 5 ? `d${id}` : id, { [`f${step}`]: step }, { space });
    const done = await wrote.catch((error: unknown) => {
      expect(error).toMatchObject({ code: "not_replicated" });
    });
    if (done && how >= 5) this.written.set(`${space ?? ""}/${table}/${id} f${step}`, step);
  }

  /** A sync of which an answer may be lost, or while which other tabs may choose, or the device is killed. */
  async sync(replica: Replica): Promise<void> {
    const { line } = this.devices;
    const [name] = [...this.parts].find(([, part]) => part === replica) ?? [];
    line.loses = this.one([0, 0, 0, 1, 2, 4]);
    line.meanwhile = async () => {
      for (let n = 0; n < 2; n++)
        if (name && this.random(9) === 0) await this.devices.choose(name, this.#choice(name));
      if (name && this.random(12) === 0) await replica.close();
    };
    await replica[this.one(["sync", "sync", "pull", "push"] as const)]().catch((error: unknown) => {
      if (!(error instanceof SyncdError) || !["offline", "closed", "store_failed"].includes(error.code))
        throw error;
    });
    if (name && !(await replica.pending().catch(() => null))) await this.#open(name);
    line.loses = 0;
    line.meanwhile = async () => {};
  }

  async step(step: number): Promise<void> {
    const name = this.one([...this.parts.keys()]);
    const replica = this.one([this.whole, this.parts.get(name) as Replica]);
    const kind = this.random(100);
    if (kind < 55) await this.write(replica, step);
    else if (kind < 85) await this.sync(replica);
    else await this.choose(name);
  }

  async settle(): Promise<void> {
    this.devices.line.old = false;
    for (let n = 0; n < 2; n++)
      for (const replica of [...this.parts.values(), this.whole]) await replica.sync();
  }
}

it.each(Array.from({ length: SEEDS }, (_, n) => SEED + n))(
  "each has what the whole one has of its choice: %i",
  async (seed) => {
    const world = new World(seed);
    await world.begin();
    // The server of every third run is one of before, or becomes one, or a newer one, at any time.
    for (let step = 0; step < STEPS; step++) {
      if (seed % 3 === 2 && world.random(10) === 0) world.devices.line.old = !world.devices.line.old;
      await world.step(step);
    }
    await world.settle();
    const everything = await shown(world.whole);
    const fields = Object.entries(everything).flatMap(([key, record]) =>
      Object.entries(record).map(([field, { value }]) => [`${key} ${field}`, value]),
    );
    expect(Object.fromEntries(fields)).toMatchObject(Object.fromEntries(world.written));
    for (const [name, part] of world.parts) {
      expect(await part.pending()).toEqual([]);
      expect(await shown(part)).toEqual(await shown(world.whole, world.choices.get(name)));
      expect(await verify(part)).toMatchObject({ differences: 0 });
    }
  },
);
