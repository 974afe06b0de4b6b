/**
 * What the adapter keeps beside the documents, in a collection of its own in the same database: what the server has
 * of each record, register by register, the edits that it refused, and the id of this device.
 */

import type { RxCollection, RxDatabase } from "rxdb";
import { map, type Observable } from "rxjs";
import { newId, type Op } from "../data/change.js";
import { EPOCH, type Instant } from "../data/clock.js";
import { type Register, type Registers, TOMBSTONE } from "../data/merge.js";
import { dump, type Json, type JsonObject } from "../data/values.js";
import { WrongReplica } from "../errors.js";
import type { Document } from "./documents.js";

/** The name of the collection, which a database has once for all that is replicated. */
const NAME = "syncd";

type KeptKind = "device" | "record" | "rejected" | "acked" | "sent";

interface Kept {
  readonly key: string;
  readonly feed: string;
  readonly kind: KeptKind;
  /** JSON; RxDB's types could not make an end of saying so. */
  readonly body: object;
}

const SCHEMA = {
  version: 0,
  primaryKey: "key",
  type: "object",
  properties: {
    key: { type: "string", maxLength: 1000 },
    feed: { type: "string", maxLength: 700 },
    kind: { type: "string", maxLength: 10 },
    body: { type: "object", additionalProperties: true },
  },
  required: ["key", "feed", "kind", "body"],
  indexes: [["feed", "kind"]],
} as const;

/**
 * What the server has of a record, as far as it is known here. `round`: the start from "" in which it came, named by
 * when that began; `pushed`: when it was last pushed from here (0: never). Milliseconds since 1970.
 */
export interface ShadowRecord {
  readonly id: string;
  readonly round: number;
  readonly pushed: number;
  readonly registers: Registers;
}

/** An edit that the server refused, for `code` and `detail`. `document` is the whole document as it was edited. */
export interface Rejected {
  readonly changeId: string;
  readonly id: string;
  readonly op: Op;
  readonly code: string;
  readonly detail: string;
  readonly change: JsonObject;
  readonly document: Document;
}

/** A change that the server acknowledged to `client`. A later one has a greater number. */
export interface Acked {
  readonly number: number;
  readonly client: string;
  readonly changeId: string;
}

/** So many of the latest are kept; the server would hear of 64. */
const MOST_ACKED = 16;

/** What a database that is open calls itself in its incarnations. */
const names = new WeakMap<RxDatabase, string>();

function nameOfDatabase(database: RxDatabase): string {
  const name = names.get(database) ?? newId(Date.now());
  names.set(database, name);
  return name;
}

/** What is kept of this device. `incarnations`: as which copy of the database it may have pushed, see `Shadow.present`. */
interface KeptDevice {
  readonly client: string;
  readonly user?: string;
  readonly incarnations?: readonly string[];
  /** The client id that it had until another copy of the database was heard of. */
  readonly copiedFrom?: string;
}

const opening = new WeakMap<RxDatabase, Promise<RxCollection<Kept>>>();

function open(database: RxDatabase): Promise<RxCollection<Kept>> {
  const known = opening.get(database);
  if (known !== undefined) return known;
  const opened = database
    .addCollections({ [NAME]: { schema: SCHEMA } })
    .then((made) => made[NAME] as RxCollection<Kept>);
  opening.set(database, opened);
  opened.catch(() => opening.delete(database)); // the next call tries again
  return opened;
}

/** The part of the collection that belongs to one replication, `feed`. */
export class Shadow {
  readonly #database: RxDatabase;
  readonly #feed: string;
  #user: string | null = null;

  constructor(database: RxDatabase, feed: string) {
    this.#database = database;
    this.#feed = feed;
  }

  /** This device's id: one for each database. */
  async client(): Promise<string> {
    return bodyOf(await this.#device()).client;
  }

  /** What is kept of this device, now and at each change. */
  async device$(): Promise<Observable<KeptDevice>> {
    return (await this.#device()).$.pipe(map(bodyOf));
  }

  /** Keeps the database one user's. Raises WrongReplica. */
  async checkUser(user: string): Promise<void> {
    if (this.#user === user) return;
    const { user: held } = await this.#change((body) => (body.user === undefined ? { ...body, user } : body));
    if (held !== user) {
      throw new WrongReplica(`the database belongs to the user ${dump(held ?? "")}, not ${dump(user)}.`);
    }
    this.#user = user;
  }

  /**
   * As whom a push is sent: the client id, and the incarnations of the last push that was answered and of those since.
   * The last of them is of this opening of the database, which no copy of it has.
   */
  async present(): Promise<{ readonly client: string; readonly incarnations: readonly string[] }> {
    const name = nameOfDatabase(this.#database);
    const { client, incarnations = [] } = await this.#change((body) => {
      const held = body.incarnations ?? [];
      const number = Number.parseInt(held.at(-1) ?? "0", 10) + 1;
      return isOf(body, name) ? body : { ...body, incarnations: [...held.slice(-30), `${number}.${name}`] };
    });
    return { client, incarnations };
  }

  /** A push was answered: where it was as what is kept last, the others are not needed any more. */
  async answered(incarnation: string | undefined): Promise<void> {
    await this.#change((body) => {
      const held = body.incarnations ?? [];
      return held.length > 1 && held.at(-1) === incarnation
        ? { ...body, incarnations: held.slice(-1) }
        : body;
    });
  }

  /** The server has heard of another copy: takes a new client id, unless another tab has pushed or was told meanwhile. */
  async copied(): Promise<void> {
    const name = nameOfDatabase(this.#database);
    await this.#change((body) =>
      isOf(body, name)
        ? { ...body, client: newId(Date.now()), incarnations: [], copiedFrom: body.client }
        : body,
    );
  }

  /** Changes what is kept of this device, if `change` makes something new of it. Returns what is kept then. */
  async #change(change: (body: KeptDevice) => KeptDevice): Promise<KeptDevice> {
    const device = (await this.#device()).getLatest();
    const body = bodyOf(device);
    if (change(body) === body) return body;
    return bodyOf(
      await device.incrementalModify((row) => ({ ...row, body: change(row.body as KeptDevice) })),
    );
  }

  async #device() {
    const kept = await open(this.#database);
    const found = await kept.findOne("device").exec();
    const body = { client: newId(Date.now()) };
    return found ?? kept.insertIfNotExists({ key: "device", feed: "", kind: "device", body });
  }

  /** Keeps a change that the server has: the checkpoint stands before it. */
  async acknowledge(client: string, changeId: string): Promise<void> {
    const kept = await this.#list("acked");
    await kept.incrementalModify((row) => {
      const held = ackedOf(row);
      const number = Math.max(Date.now(), (held.at(-1)?.number ?? 0) + 1);
      return { ...row, body: { acked: [...held, { number, client, changeId }].slice(-MOST_ACKED) } };
    });
  }

  /** The latest changes that the server has acknowledged, oldest first, whether or not a checkpoint is past them. */
  async acked(): Promise<readonly Acked[]> {
    return ackedOf((await this.#list("acked")).getLatest());
  }

  /** Keeps, before they are sent, the stamps of documents that the server is not known to have. */
  async sending(stamps: ReadonlyMap<string, Instant>): Promise<void> {
    const held = await this.unanswered();
    if ([...stamps].every(([id, at]) => held.get(id) === at)) return;
    const kept = await this.#list("sent");
    await kept.incrementalModify((row) => ({
      ...row,
      body: { sent: [...new Map([...sentOf(row), ...stamps])] },
    }));
  }

  /** It is known what the server has of these, or that it has nothing. */
  async settled(ids: readonly string[]): Promise<void> {
    const held = await this.unanswered();
    const over = new Set(ids.filter((id) => held.has(id)));
    if (over.size === 0) return;
    const kept = await this.#list("sent");
    await kept.incrementalModify((row) => ({
      ...row,
      body: { sent: [...sentOf(row)].filter(([id]) => !over.has(id)) },
    }));
  }

  /** The stamps of documents that were sent, or were to be, and of which nothing is known but that. */
  async unanswered(): Promise<ReadonlyMap<string, Instant>> {
    return sentOf((await this.#list("sent")).getLatest());
  }

  async #list(kind: "acked" | "sent") {
    const kept = await open(this.#database);
    const key = this.#key(kind, "");
    const found = await kept.findOne(key).exec();
    return found ?? kept.insertIfNotExists({ key, feed: this.#feed, kind, body: { [kind]: [] } });
  }

  /** What is known of these records; nothing of those that are not known. */
  async of(ids: Iterable<string>): Promise<Map<string, ShadowRecord>> {
    const { storageInstance } = await open(this.#database);
    // RxDB's own queries keep their results: of one that names an id twice (17.6) they keep what is not so any more.
    const keys = Array.from(new Set(ids), (id) => this.#key("record", id));
    return byId(await storageInstance.findDocumentsById(keys, false));
  }

  /** Everything that is known of any record. */
  async all(): Promise<Map<string, ShadowRecord>> {
    return byId(await this.#find("record").then((query) => query.exec()));
  }

  async keep(shades: Iterable<ShadowRecord>): Promise<void> {
    await this.#upsert(
      "record",
      Array.from(shades, (shade) => [shade.id, writeRecord(shade)]),
    );
  }

  async reject(rejected: readonly Rejected[]): Promise<void> {
    const bodies = rejected.map((one) => [one.changeId, one as unknown as JsonObject] as const);
    await this.#upsert("rejected", bodies);
  }

  async forget(changeId: string): Promise<void> {
    const kept = await open(this.#database);
    await kept.bulkRemove([this.#key("rejected", changeId)]);
  }

  /** What was refused, oldest first. */
  async rejected(): Promise<Rejected[]> {
    return this.#find("rejected").then(async (query) => readRejected(await query.exec()));
  }

  /** The same, now and whenever it has changed. */
  async rejected$(): Promise<Observable<Rejected[]>> {
    return (await this.#find("rejected")).$.pipe(map(readRejected));
  }

  async #find(kind: KeptKind) {
    const kept = await open(this.#database);
    return kept.find({ selector: { feed: this.#feed, kind } });
  }

  async #upsert(kind: KeptKind, bodies: readonly (readonly [id: string, body: JsonObject])[]): Promise<void> {
    if (bodies.length === 0) return;
    const kept = await open(this.#database);
    const rows = bodies.map(([id, body]) => ({ key: this.#key(kind, id), feed: this.#feed, kind, body }));
    const { error } = await kept.bulkUpsert(rows);
    if (error.length > 0)
      throw new Error(`the database refused ${error.length} of the adapter's own documents`);
  }

  #key(kind: KeptKind, id: string): string {
    return JSON.stringify([kind, this.#feed, id]);
  }
}

/** What is known of a record that is gone: nothing but that, with the weakest stamp, so that it may come back. */
export function goneRecord(id: string, round: number, now: Instant): ShadowRecord {
  return { id, round, pushed: 0, registers: new Map([[TOMBSTONE, { value: now, at: EPOCH, client: "" }]]) };
}

function bodyOf({ body }: { readonly body: object }): KeptDevice {
  return body as KeptDevice;
}

function ackedOf({ body }: { readonly body: object }): readonly Acked[] {
  return (body as { readonly acked: readonly Acked[] }).acked;
}

function sentOf({ body }: { readonly body: object }): ReadonlyMap<string, Instant> {
  return new Map((body as { readonly sent: readonly (readonly [string, Instant])[] }).sent);
}

/** Whether the last incarnation is of the database that is called so. */
function isOf({ incarnations = [] }: KeptDevice, name: string): boolean {
  return incarnations.at(-1)?.endsWith(`.${name}`) ?? false;
}

function readRejected(found: readonly { readonly body: object }[]): Rejected[] {
  const rejected = found.map(({ body }) => body as unknown as Rejected);
  return rejected.sort((one, other) => (one.changeId < other.changeId ? -1 : 1));
}

function byId(found: Iterable<{ readonly body: object }>): Map<string, ShadowRecord> {
  const shades = Array.from(found, ({ body }) => readRecord(body as JsonObject));
  return new Map(shades.map((shade) => [shade.id, shade]));
}

/** A register is kept as [field, value, at, client, sent]: a document's own members could not be called `_deleted`. */
function writeRecord({ id, round, pushed, registers }: ShadowRecord): JsonObject {
  const rows = Array.from(registers, ([field, { value, at, client, sent }]) => [
    field,
    value,
    at,
    client,
    sent ?? null,
  ]);
  return { id, round, pushed, registers: rows };
}

type KeptRegister = readonly [field: string, value: Json, at: Instant, client: string, sent: Instant | null];

function readRecord(body: JsonObject): ShadowRecord {
  const rows = body.registers as unknown as readonly KeptRegister[];
  const registers = rows.map(([field, value, at, client, sent]): [string, Register] => [
    field,
    sent === null ? { value, at, client } : { value, at, client, sent },
  ]);
  const [round, pushed] = [Number(body.round), Number(body.pushed)];
  return { id: String(body.id), round, pushed, registers: new Map(registers) };
}
