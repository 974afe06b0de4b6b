/**
 * Devices of this client, in a Node of their own. They write, look and sync as they like until they are told to rest;
 * what they do goes to standard output, a JSON object a line, and orders come by standard input: `{"do": "clock",
 * "micros": n}`, `{"do": "rest"}`, `{"do": "show"}`. tests/soak/device_process.py does the same for the other client.
 */

import "fake-indexeddb/auto";
import { createInterface } from "node:readline";
import { IDBFactory } from "fake-indexeddb";
import WebSocket from "ws";
import {
  type Batch,
  type Live,
  NotAllowed,
  Replica,
  type SocketConstructor,
  SyncdError,
} from "../../src/index.js";

const PARTS = 3;
const SHARED = 5;
/** Changes of a page of those that ask: less than two pushes. */
const SMALL = 7;

interface Given {
  name: string;
  user: string;
  url: string;
  token: string;
  live: boolean;
}

interface Job {
  app: string;
  spaces: string[];
  devices: Given[];
}

interface Looked {
  heads: { [device: string]: number };
  torn: string[];
  canaries: string[];
}

const rest = (most: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, 50 + Math.random() * most));
const one = <T>(all: readonly T[]): T => all[Math.floor(Math.random() * all.length)] as T;

class Device {
  offset = 0;
  resting = false;
  readonly #given: Given;
  readonly #spaces: string[];
  readonly #replica: Replica;
  readonly #live: Live | null;
  readonly #told = new Map<string, string>();
  readonly #numbers = new Map<string, number>();
  readonly #refused = new Set<string>();
  #sent = new Set<string>();
  #settled = false;

  private constructor(job: Job, given: Given, replica: Replica) {
    this.#given = given;
    this.#spaces = job.spaces;
    this.#replica = replica;
    this.#live = given.live ? replica.live() : null;
    this.tell("started");
  }

  static async open(job: Job, given: Given): Promise<Device> {
    let device: Device | undefined;
    const replica = await Replica.open(given.name, {
      app: job.app,
      url: given.url,
      token: given.token,
      indexedDB: new IDBFactory(),
      durability: "normal",
      webSocket: WebSocket as unknown as SocketConstructor,
      limits: given.live ? {} : { pullLimit: SMALL },
      retry: { attempts: 3, first: 100, longest: 1000 },
      wall: () => Date.now() + (device?.offset ?? 0) / 1000,
    });
    device = new Device(job, given, replica);
    return device;
  }

  tell(ev: string, more: object = {}): void {
    process.stdout.write(`${JSON.stringify({ t: Date.now() / 1000, who: this.#given.name, ev, ...more })}\n`);
  }

  /** Until it is told to rest; then until nothing is left to be sent. */
  async run(): Promise<void> {
    while (!this.resting) {
      await this.#turn();
      await rest(200);
    }
    while ((await this.#replica.pending()).length > 0) {
      await this.#exchange();
      await this.#account();
      await rest(50);
    }
    await this.#account();
    this.tell("idle");
  }

  async #turn(): Promise<void> {
    const space = Math.random() < 0.7 ? (this.#spaces[0] as string) : one(this.#spaces);
    for (const each of this.#spaces) await this.#look(each);
    if (Math.random() < 0.6) await this.#write(space);
    if (Math.random() < 0.4) await this.#exchange();
    await this.#account();
  }

  async #exchange(): Promise<void> {
    if (this.#live) return;
    try {
      await this.#replica.sync();
      this.#settled = true;
    } catch (error) {
      if (!(error instanceof SyncdError)) throw error;
      this.tell("failed", { code: error.code, detail: error.message });
    }
  }

  async #heads(space: string): Promise<Looked> {
    const parts = new Map<string, number[]>();
    const canaries: string[] = [];
    for (const { id, fields } of await this.#replica.query("items", [], { space })) {
      const device = id.slice(0, id.lastIndexOf("-"));
      if (device === "canary") canaries.push(id);
      else if (device !== "shared")
        parts.set(device, [...(parts.get(device) ?? []), Number(String(fields.value).split(":").pop())]);
    }
    const all = [...parts];
    const torn = all.filter(([, found]) => found.length !== PARTS || new Set(found).size > 1);
    return {
      heads: Object.fromEntries(all.map(([device, found]) => [device, Math.min(...found)])),
      torn: torn.map(([device]) => device),
      canaries: canaries.sort(),
    };
  }

  async #look(space: string): Promise<Looked["heads"]> {
    const looked = await this.#heads(space);
    const text = JSON.stringify([looked.heads, looked.canaries]);
    if (text !== this.#told.get(space)) {
      this.#told.set(space, text);
      const settled = this.#settled || this.#given.live;
      this.tell("seen", { space, user: this.#given.user, ...looked, settled });
    }
    return looked.heads;
  }

  async #write(space: string): Promise<void> {
    const n = (this.#numbers.get(space) ?? 0) + 1;
    this.#numbers.set(space, n);
    const saw = await this.#look(space);
    const { name } = this.#given;
    const value = `${name}:${n}`;
    this.tell("wrote", { space, n, saw, ids: [] });
    const written = this.#replica.batch((batch) => {
      for (let part = 0; part < PARTS; part += 1) batch.put("items", `${name}-${part}`, { value }, { space });
      share(batch, space, value);
    });
    const ids = await written.catch((error: unknown) => {
      if (!(error instanceof NotAllowed)) throw error;
      this.tell("refused", { space, id: "", code: error.code }); // a reader for a while, which the device knows
      return [];
    });
    if (!ids[0]) return;
    for (const id of ids) this.#sent.add(id);
    this.tell("wrote", { space, n, saw, ids });
  }

  /** Tells what has left the outbox: the server has it. What was refused is given up, as a user would. */
  async #account(): Promise<void> {
    const pending = new Set((await this.#replica.pending()).map(({ changeId }) => changeId));
    const stopped = [...(await this.#replica.rejected()), ...(await this.#replica.keptAside())];
    for (const { changeId, space, code, state } of stopped) {
      if (!this.#refused.has(changeId)) this.tell("refused", { space, id: changeId, code: code ?? state });
      this.#refused.add(changeId);
    }
    const left = [...this.#sent].filter((id) => !pending.has(id) && !this.#refused.has(id));
    if (left.length > 0) this.tell("acked", { ids: left.sort() });
    this.#sent = new Set([...this.#sent].filter((id) => pending.has(id)));
    for (const { changeId } of stopped) await this.#replica.drop(changeId).catch(() => undefined);
  }

  /** All that it holds, after a sync where it is not live. */
  async show(): Promise<void> {
    await this.#exchange();
    await this.#account();
    const spaces: { [space: string]: { [record: string]: object } } = {};
    for (const space of [...this.#spaces, null])
      for (const table of ["items", "tasks"]) {
        for (const { id } of await this.#replica.query(table, [], { space, deleted: true })) {
          const held = [...(await this.#replica.registers(table, id, { space }))];
          const registers = Object.fromEntries(held.map(([field, r]) => [field, [r.value, r.at, r.client]]));
          const records = spaces[space ?? "personal"] ?? {};
          records[`${table}/${id}`] = registers;
          spaces[space ?? "personal"] = records;
        }
      }
    const pending = (await this.#replica.pending()).length;
    this.tell("shown", { spaces, state: this.#live?.state.name ?? "", pending });
  }

  close(): Promise<void> {
    return this.#replica.close();
  }
}

function share(batch: Batch, space: string, value: string): void {
  const record = `shared-${Math.floor(Math.random() * SHARED)}`;
  const what = Math.random();
  const fields = { [one(["x", "y"])]: value };
  if (what < 0.4) batch.put("items", record, fields, { space });
  else if (what < 0.6) batch.patch("items", record, fields, { space, upsert: true });
  else if (what < 0.75) batch.delete("items", record, { space, upsert: true });
}

async function main(job: Job): Promise<void> {
  const devices = await Promise.all(job.devices.map((given) => Device.open(job, given)));
  for (const device of devices) void device.run();
  for await (const line of createInterface(process.stdin)) {
    const order = JSON.parse(line) as { do: string; micros?: number };
    for (const device of devices) {
      if (order.do === "clock") device.offset = order.micros ?? 0;
      if (order.do === "rest") device.resting = true;
      if (order.do === "show") await device.show();
    }
  }
  await Promise.all(devices.map((device) => device.close()));
  process.exit(0);
}

void main(JSON.parse(process.argv[2] ?? "") as Job);
