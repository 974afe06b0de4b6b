/**
 * @syncd/client: a local database that syncs with a syncd server. `Replica` is the door; everything else is what it
 * takes, returns or raises.
 */

export { type AnyTables, Batch, type FieldsOf, type Place, type TableOf } from "./batch.js";
export { type Key, newId } from "./change.js";
export type { Instant } from "./clock.js";
export type { Socket, SocketConstructor, SocketEvent } from "./endpoint.js";
export * from "./errors.js";
export type {
  Answered,
  Changes,
  Conflicted,
  Event,
  Listener,
  LiveName,
  LiveState,
  Presence,
  RecordKey,
  Verified,
} from "./events.js";
export type { Durability } from "./indexeddb.js";
export type { Json, JsonObject } from "./json.js";
export type { Live } from "./live.js";
export type { Register, Registers } from "./merge.js";
export type { Observed, Query, RecordView, StatusView, SyncStatus } from "./observed.js";
export type { MakeStore, Prepare } from "./opening.js";
export type { LiveOptions, ReplicaOptions, Watching } from "./options.js";
export type { Limits, Queued } from "./outbox.js";
export { EVERY_SPACE, type Operator, type Operators, type QueryOptions, type Where } from "./query.js";
export type { Row } from "./records.js";
export { Replica } from "./replica.js";
export type { Conflict } from "./reply.js";
export type { LivePolicy, RetryPolicy } from "./retry.js";
export type { Status, StatusName } from "./status.js";
export type { RowStore, RowTransaction, RowWork } from "./store.js";
export type { Report } from "./sync.js";
export type { Locks } from "./tabs.js";
export type { Token } from "./transport.js";
