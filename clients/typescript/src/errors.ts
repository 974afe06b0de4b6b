/** What can go wrong, as one tree: every error says its code, its cause and the remedy. */

/** The root. `code` is stable and meant for programs; `message` is meant for people. */
export class SyncdError extends Error {
  readonly code: string;
  readonly detail: string;

  constructor(code: string, detail: string, remedy = "") {
    super(`${detail} ${remedy}`.trim());
    this.name = new.target.name;
    this.code = code;
    this.detail = detail;
  }
}

/** A write that the server would refuse, refused at once. `field` names the culprit, if one does. */
export class InvalidWrite extends SyncdError {
  readonly field: string | null;

  constructor(detail: string, field: string | null = null) {
    super("invalid_write", detail);
    this.field = field;
  }
}

/** A batch is pushed whole, so it must fit one push. Nothing of it was written. */
export class BatchTooLarge extends SyncdError {
  constructor(detail: string) {
    super("batch_too_large", detail, "Split it into smaller batches, or raise limits with the server's.");
  }
}

/** A query that cannot be answered: an unknown operator, or an operand that has no order. */
export class InvalidQuery extends SyncdError {
  constructor(detail: string) {
    super("invalid_query", detail);
  }
}

/** No refused or set-aside change has that id (it may have been sent, fixed or dropped since). */
export class NoSuchChange extends SyncdError {
  constructor(changeId: string) {
    super("no_such_change", `no refused change has the id ${JSON.stringify(changeId)}.`);
  }
}

/** The store belongs to another app, client id or user, or was written by a newer version. */
export class WrongReplica extends SyncdError {
  constructor(detail: string, remedy = "Open another name: one store is one device of one user in one app.") {
    super("wrong_replica", detail, remedy);
  }
}

/** The store could not write: `storage_full`, or `store_failed`. Nothing of the write is in it. */
export class StoreFailed extends SyncdError {
  constructor(cause: unknown) {
    const full = cause instanceof Error && cause.name === "QuotaExceededError";
    super(full ? "storage_full" : "store_failed", `the store failed: ${String(cause)}.`);
    this.cause = cause;
  }
}

/** The replica was opened without `url`, so it can be used but not synced. */
export class NotConnected extends SyncdError {
  constructor() {
    super("not_connected", "the replica has no server.", "Open it with url and token.");
  }
}

/** Another tab or replica is syncing this store, and did not answer; or this one is live already. */
export class SyncBusy extends SyncdError {
  constructor(detail: string) {
    super(
      "sync_busy",
      detail,
      "It sends everybody's writes, so there is nothing to do but to try again later.",
    );
  }
}

/** The server could not be reached, or its answer did not arrive whole. Nothing is lost. */
export class Offline extends SyncdError {
  constructor(detail: string, code = "offline") {
    super(code, detail, "The writes wait in the outbox; sync again later.");
  }
}

/** The server answered 429, 503 or another 5xx until the retries ran out. `retryAfter` is in milliseconds. */
export class ServerBusy extends SyncdError {
  retryAfter: number | null = null;

  constructor(detail: string, code = "busy") {
    super(code, detail, "The writes wait in the outbox; sync again later.");
  }
}

/** 401 or 403 for the whole request, after the token was asked for again. */
export class NotAllowed extends SyncdError {
  constructor(detail: string, code = "unauthorized") {
    super(code, detail, "Sign in again, or pass a token function that returns a fresh token.");
  }
}

/** The server refused a request as a whole and named no change that is at fault. */
export class Refused extends SyncdError {
  readonly status: number;

  constructor(detail: string, code: string, status: number) {
    super(code, `${detail} (${status} ${code})`);
    this.status = status;
  }
}

/** The answer is not of the protocol. Nothing of it was applied. `garbled`: it is not even JSON. */
export class BadReply extends SyncdError {
  readonly garbled: boolean;

  constructor(detail: string, garbled = false) {
    super("bad_reply", detail, "Check that url is a syncd server and not a page in front of it.");
    this.garbled = garbled;
  }
}
