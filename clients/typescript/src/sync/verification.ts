/** Compares a replica with the server by digests, and repairs what differs. */

import { type Change, keyText, listOf, objectOf, readChange, spaceKey, textOf } from "../data/change.js";
import { byBucket, type DigestSum, EMPTY, type Entry, entriesOf, sameSum, sumOf } from "../data/digest.js";
import type { Verified } from "../data/events.js";
import { dump, type Json, type JsonObject } from "../data/values.js";
import { BadReply, Refused } from "../errors.js";
import type { Source } from "../store/observed.js";
import { LoadedRecord, save, settle } from "../store/records.js";
import { type Asks, keeps, keyOf, type Meta, type Transaction } from "../store/store.js";
import { sleep } from "../timing.js";
import { announce } from "./apply.js";
import type { Exchange } from "./exchange.js";
import { apiClientOf, ask } from "./request.js";

/** Of the 256 buckets: from then on it is cheaper to fetch everything again. */
const MANY = 64;
const PULLS = 3;
const WAITS = 60;
const HOUR = 3_600_000;

/** How often, and after how long without an event, a replica is verified by itself. Milliseconds. */
export interface Watching {
  readonly every?: number;
  readonly quiet?: number;
}

/** Verifies a replica that syncs by this exchange; what is found is published, too. Raises what `verify` raises. */
export async function verifyBy(exchange: Exchange): Promise<Verified> {
  const found = await new Verification(exchange).run();
  await note(exchange, Date.now());
  exchange.parts.device.publish(found);
  return found;
}

/** Verifies whenever it is time and the live sync, whose events `source` tells, is quiet. Returns how to stop it. */
export function keepVerifiedBy(
  exchange: Exchange,
  source: Pick<Source, "on">,
  { every = 6 * HOUR, quiet = 30_000 }: Watching = {},
): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let [live, busy] = [true, false];
  const later = (pause: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => void check(), Math.min(pause, 2 ** 31 - 1));
  };
  const check = async (): Promise<void> => {
    if (busy || !live) return;
    busy = true;
    const wait = await remaining(exchange, every).catch(() => every);
    const failed =
      wait <= 0 &&
      (await verifyBy(exchange).then(
        () => false,
        () => true,
      ));
    busy = false;
    if (!stopped) later(failed ? Math.max(quiet, every / 36) : Math.max(quiet, wait <= 0 ? every : wait));
  };
  let stopped = false;
  const stop = source.on((event) => {
    if (event.kind === "state")
      live = !event.following && (event.name === "live" || event.name === "polling");
    if (!busy && event.kind !== "verified") later(quiet);
  });
  later(quiet);
  return () => {
    stopped = true;
    stop();
    clearTimeout(timer);
  };
}

/** How long it is until it is time to verify. */
async function remaining(exchange: Exchange, every: number): Promise<number> {
  const now = Date.now();
  const last = await exchange.parts.device.store.read(async ({ meta }) => meta.verified);
  if (last === undefined) await note(exchange, now);
  const since = now - (last ?? now);
  return since < 0 ? 0 : every - since; // a time that is yet to come was noted by a clock that was wrong
}

function note(exchange: Exchange, now: number): Promise<void> {
  return exchange.parts.device.store.write(async ({ meta }) => {
    meta.verified = now;
  });
}

/** How the comparison of one space ended. "moved": somebody wrote meanwhile. */
type Comparison = "same" | "moved" | "restarted";

class Verification {
  readonly #exchange: Exchange;
  /** The spaces, by the server's names, that are not compared yet; null: all. */
  #left: Set<string> | null = null;
  /** The few values as they were when the comparison began. */
  #meta: Meta | null = null;
  #pulls = PULLS;
  #waits = WAITS;
  readonly #repaired = new Set<string>();
  #found = { spaces: 0, records: 0, differences: 0, repaired: 0, restarted: false };

  constructor(exchange: Exchange) {
    this.#exchange = exchange;
  }

  get #store() {
    return this.#exchange.parts.device.store;
  }

  async run(): Promise<Verified> {
    await this.#exchange.sync("pull");
    for (;;) {
      this.#meta = await this.#store.read(async ({ meta }) => meta);
      const behind = await this.#compare(this.#meta.cursor);
      const left = this.#left ?? new Set();
      if (left.size === 0 && this.#left !== null) return this.#result([]);
      if (behind ? this.#pulls-- <= 0 : this.#waits-- <= 0) return this.#result([...left]);
      if (behind)
        await this.#exchange.sync("pull"); // after a new start there is nothing to fetch, and no harm in asking
      else await sleep(1000, this.#exchange.parts.closing);
    }
  }

  #result(skipped: readonly string[]): Verified {
    return {
      kind: "verified",
      ...this.#found,
      skipped: skipped.map((name) => spaceKey(name) || null).sort(),
    };
  }

  /** Compares what is left and can be compared now. Whether the rest can be after a pull. */
  async #compare(since: string): Promise<boolean> {
    const wire = await this.#ask(since, {});
    const told = listOf(wire.spaces).map(objectOf);
    const [behind, unready] = [listOf(wire.behind).map(textOf), listOf(wire.unready).map(textOf)];
    const { spaces } = this.#choice;
    const named = [...told.map(({ spaceId }) => textOf(spaceId)), ...behind, ...unready].filter((name) =>
      keeps({ spaces }, [spaceKey(name), "", ""]),
    );
    const left = new Set(named.filter((name) => this.#left?.has(name) ?? true));
    this.#left = left;
    for (const space of told) {
      const name = textOf(space.spaceId);
      if (!left.has(name)) continue;
      const ending = await this.#compareSpace(since, name, sumFrom([space.records, space.digest]));
      if (ending === "restarted") this.#left = null;
      if (ending !== "same") return true;
      this.#found.spaces += 1;
      this.#found.records += Number(space.records);
      left.delete(name);
    }
    return behind.some((name) => left.has(name));
  }

  async #compareSpace(since: string, name: string, theirs: DigestSum): Promise<Comparison> {
    const entries = await this.#entries(name);
    if (entries === null) return "moved";
    if (sameSum(sumOf(entries), theirs)) return "same";
    try {
      return await this.#repairSpace(since, name, entries);
    } catch (error) {
      if (error instanceof Refused && error.status === 409) return "moved";
      throw error;
    }
  }

  async #repairSpace(since: string, name: string, entries: readonly Entry[]): Promise<Comparison> {
    const [space] = listOf((await this.#ask(since, { spaceId: name })).spaces).map(objectOf);
    if (space === undefined) return "moved";
    const theirs = new Map(listOf(space.buckets).map(bucketFrom));
    const ours = byBucket(entries);
    const buckets = [...new Set([...ours.keys(), ...theirs.keys()])].filter((bucket) => {
      return !sameSum(sumOf(ours.get(bucket) ?? []), theirs.get(bucket) ?? EMPTY);
    });
    if (buckets.length >= MANY && !this.#found.restarted) return this.#fetchAgain(buckets.length);
    for (const bucket of buckets) {
      for (let held = ours.get(bucket) ?? []; ; ) {
        const more = await this.#repairBucket(since, name, bucket, held);
        if (more === null) return "moved";
        if (!more) break;
        const all = await this.#entries(name);
        if (all === null) return "moved";
        held = all.filter((entry) => entry.bucket === bucket);
      }
    }
    return "same";
  }

  /**
   * So much differs that everything is fetched again, under the unsent writes. With a cursor that no server has made
   * the next sync begins again by itself, alone with the store, as it does when the server was restored from a backup.
   */
  async #fetchAgain(differences: number): Promise<Comparison> {
    await this.#store.write(async ({ meta }) => {
      meta.cursor = "anew";
    });
    const { restarted } = await this.#exchange.sync("pull");
    if (!restarted) return "moved"; // a live sync had put its own cursor there
    this.#found = { spaces: 0, records: 0, differences, repaired: differences, restarted: true };
    return "restarted";
  }

  /** Whether there is more of it; null where the replica has moved on. */
  async #repairBucket(
    since: string,
    name: string,
    bucket: number,
    held: readonly Entry[],
  ): Promise<boolean | null> {
    const records = held.map(({ table, id, digest }) => [table, id, digest]);
    const { collections } = this.#choice;
    const body = dump({ since, spaceId: name, bucket, records, collections } as JsonObject);
    const wire = await ask(apiClientOf(this.#exchange), {
      method: "POST",
      path: "/digest",
      params: {},
      body,
    });
    const changes = listOf(wire.changes).map((change) => readChange(change));
    const gone = listOf(wire.gone).map((key) => goneFrom(key, name));
    const changed = await this.#store.write(async (tx) =>
      this.#isThere(tx) ? replace(tx, [...changes, ...gone]) : null,
    );
    if (changed === null) return null;
    const fresh = changed.map(keyText).filter((key) => !this.#repaired.has(key));
    for (const key of fresh) this.#repaired.add(key);
    this.#found.differences += fresh.length;
    this.#found.repaired += fresh.length;
    announce(this.#exchange.parts.device, { changed });
    return wire.hasMore === true && fresh.length > 0;
  }

  /** What the replica holds of a space at a cursor; null where it is not at it any more. */
  async #entries(name: string): Promise<Entry[] | null> {
    const rows = await this.#store.read(async (tx) => {
      return this.#isThere(tx) ? tx.all("records", [spaceKey(name)]) : null;
    });
    return rows && entriesOf(rows.filter((row) => keeps(this.#choice, keyOf(row))));
  }

  get #choice(): Asks {
    return this.#meta?.asks ?? {};
  }

  /** Whether the replica stands where it did, and keeps the same. */
  #isThere({ meta: { cursor, choices } }: Transaction): boolean {
    return cursor === this.#meta?.cursor && choices === this.#meta?.choices;
  }

  #ask(since: string, said: { readonly spaceId?: string }): Promise<JsonObject> {
    const params = new URLSearchParams({ since, ...said });
    for (const table of this.#choice.collections ?? []) params.append("collection", table);
    const call = { method: "GET", path: "/digest", params } as const;
    return ask(apiClientOf(this.#exchange), call);
  }
}

/** Forgets what was confirmed of these records, and takes what the server has for it, under what is unsent. */
async function replace(
  tx: Transaction,
  changes: readonly Pick<Change, "key" | "registers">[],
): Promise<Change["key"][]> {
  const { round } = tx.meta;
  const records = new Map<string, LoadedRecord>();
  for (const { key, registers } of changes) {
    const record = new LoadedRecord(key, undefined, round);
    record.write(new Map()); // to have what is unsent laid on top
    record.confirm(registers, round);
    records.set(keyText(key), record);
  }
  await settle(tx, records);
  save(tx, records);
  return changes.map(({ key }) => key);
}

function goneFrom(wire: Json, space: string): Pick<Change, "key" | "registers"> {
  const [table, id] = listOf(wire);
  return { key: [spaceKey(space), textOf(table), textOf(id)], registers: new Map() };
}

function bucketFrom(wire: Json): [number, DigestSum] {
  const [bucket, ...sum] = listOf(wire);
  return [Number(bucket), sumFrom(sum)];
}

function sumFrom([records, digest]: readonly (Json | undefined)[]): DigestSum {
  if (typeof records !== "number") throw new BadReply("a number of records is missing.");
  return { records, digest: textOf(digest) };
}
