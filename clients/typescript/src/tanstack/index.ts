/**
 * @syncd/client/tanstack: tables of a replica as collections of TanStack DB. The replica's store is the truth: a collection shows
 * what is in it, and a mutation is done when it is in there and shown.
 */

import type { BaseCollectionConfig, CollectionConfig, InferSchemaOutput } from "@tanstack/db";
import type { AnyTables, FieldsOf, TableOf } from "../batch.js";
import { EVERY_SPACE, type Where } from "../query.js";
import type { Replica } from "../replica.js";
import { Feed, keyOfItem, type Sink } from "./items.js";
import { Reader } from "./reader.js";
import { INSERTED, type Mutated, PLACE, type Place, writeMutations } from "./writes.js";

export { keyIn } from "./items.js";
export { DuplicateKey } from "./writes.js";

/** A record's fields, any of which may be missing, and its id. */
export type SyncdItem<F extends object> = { id: string } & {
  -readonly [name in Exclude<keyof F, "id">]?: F[name];
};

/** The same with the record's space, null for the personal one, in a collection of every space. */
export type SyncdItemIn<F extends object> = { id: string; space: string | null } & {
  -readonly [name in Exclude<keyof F, "id" | "space">]?: F[name];
};

/** `collection.utils`. */
export interface SyncdUtils {
  readonly replica: Replica;
  readonly [PLACE]: Place;
}

/** A schema as https://standardschema.dev has it. */
export interface StandardSchema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Validated | Promise<Validated>;
    readonly types?: { readonly input: unknown; readonly output: unknown } | undefined;
  };
}
type Validated =
  | { readonly value: unknown; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] };

type Given =
  | "id"
  | "gcTime"
  | "startSync"
  | "autoIndex"
  | "defaultIndexType"
  | "compare"
  | "defaultStringCollation";

/** What a collection is of, and what TanStack DB takes beside. `space`: null, the default, is the personal one. */
export interface SyncdCollectionConfig<S extends object, T extends TableOf<S>, I extends object>
  extends Pick<BaseCollectionConfig<I, string>, Given> {
  readonly replica: Replica<S>;
  readonly table: T;
  readonly space?: string | null | undefined;
  /** Only these records, and no others are in memory. */
  readonly where?: Where<FieldsOf<S, T>> | undefined;
}

/** For `createCollection`. */
export type SyncdCollectionOptions<I extends object> = CollectionConfig<I, string, never, SyncdUtils> & {
  readonly schema?: never;
  readonly utils: SyncdUtils;
};

/**
 * The options of a collection of a table, for `createCollection`. It is ready when the records on the device are read, shows what
 * this device and others write, and writes to the replica what is inserted, updated and deleted in it, of an update only the fields
 * that changed. What the replica refuses is rolled back, and its transaction rejected. Raises InvalidQuery.
 */
export function syncdCollectionOptions<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  config: SyncdCollectionConfig<S, T, SyncdItemIn<FieldsOf<S, T>>> & {
    readonly space: typeof EVERY_SPACE;
    readonly schema?: never;
  },
): SyncdCollectionOptions<SyncdItemIn<FieldsOf<S, T>>>;
export function syncdCollectionOptions<S extends object, T extends TableOf<S>, C extends StandardSchema>(
  config: SyncdCollectionConfig<S, T, InferSchemaOutput<C>> & { readonly schema: C },
): CollectionConfig<InferSchemaOutput<C>, string, C, SyncdUtils> & {
  readonly schema: C;
  readonly utils: SyncdUtils;
};
export function syncdCollectionOptions<S extends object = AnyTables, T extends TableOf<S> = TableOf<S>>(
  config: SyncdCollectionConfig<S, T, SyncdItem<FieldsOf<S, T>>> & { readonly schema?: never },
): SyncdCollectionOptions<SyncdItem<FieldsOf<S, T>>>;
export function syncdCollectionOptions(config: object): object {
  const {
    replica,
    table,
    space = null,
    where = [],
    ...rest
  } = config as SyncdCollectionConfig<AnyTables, string, object>;
  const query = replica.query(table, where, { space });
  const reader = Reader.of(replica, query["source"]);
  const place: Place = { replica, table, space, reader, feeds: new Set(), underWay: new Set() };
  const write = async ({ transaction }: Written): Promise<void> => writeMutations(transaction.mutations);
  const options: CollectionConfig<object, string, never, SyncdUtils> = {
    ...rest,
    getKey: (item) => keyOfItem(item, space === EVERY_SPACE),
    sync: {
      // What a record has not any more, after a refused write was dropped, is not to stay.
      rowUpdateMode: "full",
      sync: (sink) => {
        const feed = new Feed(query["asked"], sink as unknown as Sink);
        const leave = reader.join(feed);
        place.feeds.add(feed);
        return () => {
          place.feeds.delete(feed);
          leave();
        };
      },
      getSyncMetadata: () => ({ [INSERTED]: true }),
    },
    onInsert: write,
    onUpdate: write,
    onDelete: write,
    utils: { replica, [PLACE]: place },
  };
  return options;
}

interface Written {
  readonly transaction: { readonly mutations: readonly Mutated[] };
}

/**
 * The `mutationFn` of a transaction of several mutations, also of several collections of a replica: they are one batch, here and
 * everywhere. Mutations of other collections than syncd's are left to whoever called. Raises what a mutation of one collection raises.
 */
export function writeTransaction({ transaction }: Written): Promise<void> {
  return writeMutations(transaction.mutations);
}
