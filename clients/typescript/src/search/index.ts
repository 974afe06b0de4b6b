/**
 * @syncd/client/search: the records of a table by the words of their texts, best first. The fields are declared as `search` when
 * the replica is opened. What is found is awaited, or subscribed to, as a query is.
 */

import type { FieldsOf, TableOf } from "../batch.js";
import type { Event } from "../data/events.js";
import { type Row, rowOf } from "../data/row.js";
import { type AskedWord, askedWords, readSearch } from "../data/searched.js";
import { InvalidQuery } from "../errors.js";
import type { Replica } from "../replica.js";
import { Observed, type Source } from "../store/observed.js";
import type { RecordRow } from "../store/store.js";
import { KeptIndex } from "./kept.js";

/** `space`: null for the personal one, or EVERY_SPACE. `limit`: 50 by default, null for all. */
export interface SearchOptions {
  readonly space?: string | null;
  readonly limit?: number | null;
}

/** Milliseconds for which it is not worth while to wait. */
const LITTLE = 5;
/** Of each replica the indexes that it has in memory, by table. */
const KEPT = new WeakMap<object, Map<string, KeptIndex>>();

/**
 * The records that have every word of a text in the declared fields, of the last word its beginning, best first: those whose
 * words stand in an earlier field and as whole words, then those that have them more often; ids break ties. Case, accents and
 * compatible forms make no difference. Raises InvalidQuery.
 */
export function search<S extends object, T extends TableOf<S>>(
  replica: Replica<S>,
  table: T,
  text: string,
  { space = null, limit = 50 }: SearchOptions = {},
): Observed<readonly Row<FieldsOf<S, T>>[]> {
  const query = replica.query(table, [], { space, limit });
  const fields = readSearch(replica["options"].search ?? {}).get(table);
  if (!fields)
    throw new InvalidQuery(
      `no search of ${table} is declared: open the replica with search: { ${table}: [fields] }.`,
    );
  if (typeof text !== "string") throw new InvalidQuery("what is searched for is text.");
  const source = query["source"];
  const indexes = KEPT.get(replica) ?? new Map<string, KeptIndex>();
  const index = indexes.get(table) ?? new KeptIndex(source, table, fields);
  KEPT.set(replica, indexes.set(table, index));
  return new Found(source, index, query["asked"].space, askedWords(text), limit ?? Infinity);
}

/** What a search finds. */
class Found<F extends object> extends Observed<readonly Row<F>[]> {
  readonly #index: KeptIndex;
  readonly #space: string | null;
  readonly #asked: readonly AskedWord[];
  readonly #limit: number;
  /** When a subscriber's last search ended, and how many milliseconds it took. */
  #ended = 0;
  #took = 0;

  constructor(
    source: Source,
    index: KeptIndex,
    space: string | null,
    asked: readonly AskedWord[],
    limit: number,
  ) {
    super(source);
    this.#index = index;
    this.#space = space;
    this.#asked = asked;
    this.#limit = limit;
  }

  protected concerns(event: Event): boolean {
    return (
      event.kind === "changes" &&
      (event.everything ||
        event.records.some(
          ({ table, space }) => table === this.#index.table && (this.#space ?? space ?? "") === (space ?? ""),
        ))
    );
  }

  /** While many changes come, what is searched takes half of the time. */
  protected override async next(): Promise<readonly Row<F>[]> {
    const pause = Math.min(this.#took, this.#ended + this.#took - Date.now());
    if (pause > LITTLE) await new Promise((over) => setTimeout(over, pause));
    const began = Date.now();
    try {
      return await this.now();
    } finally {
      this.#ended = Date.now();
      this.#took = Math.max(0, this.#ended - began);
    }
  }

  protected async now(): Promise<readonly Row<F>[]> {
    const found: RecordRow[] = await this.#index.find(this.#space, this.#asked, this.#limit);
    return Object.freeze(found.map((row) => rowOf<F>(row)));
  }
}
