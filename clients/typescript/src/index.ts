/**
 * @syncd/client: a local database that syncs with a syncd server. `Replica` is the door; everything else is what it
 * takes, returns or raises.
 */

export {
  type AnyTables,
  Batch,
  type FieldsOf,
  type Place,
  type TableOf,
  type WriteOptions,
} from "./batch.js";
export { type Conflict, type Key, newId } from "./data/change.js";
export type { Instant } from "./data/clock.js";
export type {
  Answered,
  Changes,
  Conflicted,
  Event,
  JoinedSpace,
  Listener,
  LiveName,
  LiveState,
  Presence,
  RecordKey,
  SpacesChanged,
  Verified,
} from "./data/events.js";
export type { Register, Registers } from "./data/merge.js";
export type { Row } from "./data/row.js";
export type { Json, JsonObject } from "./data/values.js";
export * from "./errors.js";
export type { Socket, SocketConstructor, SocketEvent } from "./live/endpoint.js";
export type { Live } from "./live/live.js";
export type { LiveOptions } from "./options.js";
export {
  type Condition,
  EVERY_SPACE,
  type Operator,
  type Operators,
  type Order,
  type Path,
  type Query,
  type QueryOptions,
  type RecordView,
  type Where,
} from "./query.js";
export { Replica, type ReplicaOptions } from "./replica.js";
export type { StatusView, SyncStatus } from "./status.js";
export type { Limits } from "./store/enqueue.js";
export type { Status, StatusName } from "./store/explain.js";
export type { Durability } from "./store/indexeddb.js";
export type { Observed } from "./store/observed.js";
export type { MakeStore, Prepare } from "./store/open.js";
export type { Queued } from "./store/outbox.js";
export type { RowStore, RowTransaction, RowWork } from "./store/store.js";
export type { LivePolicy, RetryPolicy } from "./sync/retry.js";
export type { Report } from "./sync/session.js";
export type { Locks } from "./sync/tabs.js";
export type { Token } from "./sync/tokens.js";
export type { Watching } from "./sync/verification.js";
