/**
 * Digests: short texts that two sets of records share if they hold the same writes. Of stamps, not of values: a stamp
 * names its write. See "Digest" in the protocol's notes.
 */

import { NO_CRYPTO } from "../error-codes.js";
import { SyncdError } from "../errors.js";
import { isDeleted, type Registers } from "./merge.js";
import { compareText } from "./order.js";

/** A live record that the server has confirmed. `digest` is 16 hexadecimal digits, `bucket` 0 to 255. */
export interface Entry {
  readonly table: string;
  readonly id: string;
  readonly bucket: number;
  readonly digest: string;
}

/** What of a record's row is digested: `base` is what the server confirmed where that is not the `view`. */
interface Digested {
  readonly table: string;
  readonly id: string;
  readonly view: Registers;
  readonly base: Registers | null;
}

/** The digest of a set of records, with their number. */
export interface DigestSum {
  readonly records: number;
  readonly digest: string;
}

export const EMPTY: DigestSum = { records: 0, digest: "0".repeat(16) };
const ENCODER = new TextEncoder();
/** So many hashes are asked for at a time. */
const AT_ONCE = 2000;

/** Raises SyncdError (`no_crypto`) in a page that did not come over HTTPS: browsers hash for others only. */
async function sha256(text: string): Promise<Uint8Array> {
  const subtle = globalThis.crypto?.subtle as SubtleCrypto | undefined;
  if (subtle === undefined) throw new SyncdError("no_crypto", NO_CRYPTO);
  return new Uint8Array(await subtle.digest("SHA-256", ENCODER.encode(text)));
}

/** In which of the 256 parts of its space a record is compared. */
export async function bucketOf(table: string, id: string): Promise<number> {
  return (await sha256(`${table}\n${id}`))[0] ?? 0;
}

/** A record's digest. */
export async function digestOf(table: string, id: string, registers: Registers): Promise<string> {
  const fields = [...registers].sort(([one], [other]) => compareText(one, other));
  const lines = [table, id, ...fields.flatMap(([field, { at, client }]) => [field, at, client])];
  return hex((await sha256(lines.join("\n"))).subarray(0, 8));
}

/** The live ones of these rows, as the server confirmed them: without own unsent writes. */
export async function entriesOf(rows: readonly Digested[]): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let start = 0; start < rows.length; start += AT_ONCE) {
    const some = await Promise.all(rows.slice(start, start + AT_ONCE).map(entryOf));
    for (const entry of some) if (entry !== null) entries.push(entry);
  }
  return entries;
}

async function entryOf({ table, id, view, base }: Digested): Promise<Entry | null> {
  const confirmed = base ?? view;
  if (confirmed.size === 0 || isDeleted(confirmed)) return null;
  const [bucket, digest] = await Promise.all([bucketOf(table, id), digestOf(table, id, confirmed)]);
  return { table, id, bucket, digest };
}

/** The exclusive or of what `entries` have, with their number. */
export function sumOf(entries: readonly Entry[]): DigestSum {
  let digest = 0n;
  for (const entry of entries) digest ^= BigInt(`0x${entry.digest}`);
  return { records: entries.length, digest: digest.toString(16).padStart(16, "0") };
}

export function byBucket(entries: readonly Entry[]): Map<number, Entry[]> {
  const buckets = new Map<number, Entry[]>();
  for (const entry of entries) {
    const held = buckets.get(entry.bucket);
    if (held === undefined) buckets.set(entry.bucket, [entry]);
    else held.push(entry);
  }
  return buckets;
}

export function sameSum(one: DigestSum, other: DigestSum): boolean {
  return one.records === other.records && one.digest === other.digest;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
