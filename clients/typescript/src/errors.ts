/**
 * What can go wrong, as one tree. Tell them apart by class or by `code`: a minifier changes the names of classes.
 */

/** The root. `code` is stable and meant for programs; `message` is meant for people. */
export class SyncdError extends Error {
  override readonly name: string = "SyncdError";
  declare readonly code: string;
  declare readonly detail: string;

  constructor(code: string, detail: string) {
    super(detail);
    this.code = code;
    this.detail = detail;
  }
}

/** A write that the server would refuse, refused at once. `field` names the culprit, if one does. */
export class InvalidWrite extends SyncdError {
  declare readonly field: string | null;

  constructor(detail: string, field: string | null = null) {
    super("invalid_write", detail);
    this.field = field;
  }
}

/** A batch is pushed whole, so it must fit one push. Nothing of it was written. */
export class BatchTooLarge extends SyncdError {
  constructor(detail: string) {
    super("batch_too_large", detail);
  }
}

/** A query that cannot be answered: an unknown operator, or an operand that has no order. */
export class InvalidQuery extends SyncdError {
  constructor(detail: string) {
    super("invalid_query", detail);
  }
}

/** There is no such record on this device. */
export class NoSuchRecord extends SyncdError {
  constructor(detail: string) {
    super("no_such_record", detail);
  }
}

/** A write of a space or table that this replica does not keep. Nothing was written. */
export class NotReplicated extends SyncdError {
  constructor(detail: string) {
    super("not_replicated", detail);
  }
}

/** No refused or set-aside change has that id (it may have been sent, fixed or dropped since). */
export class NoSuchChange extends SyncdError {
  constructor(changeId: string) {
    super("no_such_change", `no refused change ${changeId}.`);
  }
}

/** The store belongs to another app, client id or user, or was written by a newer version. */
export class WrongReplica extends SyncdError {
  constructor(detail: string) {
    super("wrong_replica", detail);
  }
}

/**
 * The store could not write: `storage_full`, or `store_failed`. Nothing of the write is in it. Or it did not say in time
 * whether it keeps what it was keeping: `commit_unknown`.
 */
export class StoreFailed extends SyncdError {
  constructor(cause: unknown, code = "store_failed") {
    const full = /quota|nospc|[ _]full\b/i.test(`${cause} ${(cause as { code?: unknown } | null)?.code}`);
    super(full ? "storage_full" : code, `the store failed: ${cause}.`);
    this.cause = cause;
  }
}

/** The replica was opened without `url`, so it can be used but not synced. */
export class NotConnected extends SyncdError {
  constructor() {
    super("not_connected", "Open the replica with url and token.");
  }
}

/** Another tab or replica is syncing this store, and did not answer; or this one is live already. */
export class SyncBusy extends SyncdError {
  constructor(detail: string) {
    super("sync_busy", detail);
  }
}

/** The server could not be reached, or its answer did not arrive whole. Nothing is lost. `cause` is not repeated. */
export class Offline extends SyncdError {
  constructor(detail: string, code = "offline", cause?: unknown) {
    super(code, cause === undefined ? detail : `${detail} (${nameOf(cause)}).`);
    this.cause = cause;
  }
}

/** What kind of failure it is. The text of a library's error may repeat what was sent. */
export function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** The server answered 429, 503 or another 5xx until the retries ran out. `retryAfter` is in milliseconds. */
export class ServerBusy extends SyncdError {
  retryAfter: number | null = null;

  constructor(detail: string, code = "busy") {
    super(code, detail);
  }
}

/**
 * 401 or 403 for the whole request, after the token was asked for again; or there is no token to ask with. `code`: the
 * server's, or `no_token`, `bad_token`, `token_too_large`; or `not_a_writer`, of a write in a space of which the user is a
 * reader, refused at once.
 */
export class NotAllowed extends SyncdError {
  constructor(detail: string, code = "unauthorized") {
    super(code, detail);
  }
}

/** The server refused a request as a whole and named no change that is at fault. */
export class Refused extends SyncdError {
  declare readonly status: number;

  constructor(detail: string, code: string, status: number) {
    super(code, `${detail} (${status} ${code})`);
    this.status = status;
  }
}

/** The answer is not of the protocol. Nothing of it was applied. `garbled`: it is not even JSON. */
export class BadReply extends SyncdError {
  declare readonly garbled: boolean;

  constructor(detail: string, garbled = false) {
    super("bad_reply", detail);
    this.garbled = garbled;
  }
}
