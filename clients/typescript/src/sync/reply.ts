/** What the server answered, read and checked whole before anything of it is applied. Pure. */

import {
  type Change,
  type Conflict,
  type Key,
  listOf,
  objectOf,
  oneOf,
  type Packed,
  type Refusal,
  readChange,
  readInstant,
  spaceKey,
  textOf,
  textOr,
} from "../data/change.js";
import type { Instant } from "../data/clock.js";
import { type Json, type JsonObject, parse } from "../data/values.js";
import { BadReply } from "../errors.js";

const STATUSES = ["applied", "superseded", "duplicate", "rejected"] as const;

/** The server's word on one change. `at`: lowered stamps by field. */
export interface Result extends Refusal {
  readonly changeId: string;
  readonly status: (typeof STATUSES)[number];
  readonly at: ReadonlyMap<string, Instant>;
}

/** Changes to apply, the cursor after them (null: it stays where it was), memberships, results. */
export interface Page {
  readonly changes: readonly Change[];
  readonly cursor: string | null;
  readonly more: boolean;
  readonly joined: readonly string[];
  readonly left: readonly string[];
  readonly unreadable: readonly string[];
  readonly results: readonly Result[];
  readonly conflicts: readonly Conflict[];
  readonly wire: JsonObject;
  /** Records that are not kept any more, of which what was unsent is answered. */
  readonly gone?: readonly Key[];
}

/** A refusal. `errors`: as `blamedIn` reads them. */
export interface Problem extends Refusal {
  readonly status: number;
  readonly errors: readonly Json[];
}

/** Reads the answer to a push of `pushed`, or to a pull where nothing was. Raises BadReply. */
export function readPage(body: string, pushed: readonly Packed[]): Page {
  const wire = objectOf(parseReply(spelled(body)));
  return buildPage(wire, pushed);
}

/**
 * The JSON that a page in words stands for. A sign is a control character: where `=` follows, a word, up to the sign again,
 * which the sign stands for from there on. One that stands for nothing stays, which no JSON has, and so do those beyond what
 * a page may come to.
 */
export function spelled(page: string): string {
  const words: { [sign: string]: string } = {};
  let room = 256 * page.length + 1e6;
  return page.replace(/([^ -\uffff])(?:=([ -\uffff]*)\1)?/g, (all, sign: string, word?: string) => {
    const put = word ?? words[sign] ?? all;
    words[sign] = put;
    room -= put.length;
    return put === word ? "" : room < 0 ? all : put;
  });
}

/** Parses what should be JSON. Raises BadReply. */
export function parseReply(body: string): Json {
  try {
    return parse(body);
  } catch {
    throw new BadReply("no JSON.", true);
  }
}

/** A page of an answer or a frame. Raises BadReply. */
export function buildPage(
  wire: JsonObject,
  pushed: readonly Packed[],
  cursor: string | null = textOf(wire.syncedUntil),
  // Where `until` is empty there is more, but that came later than this reading began.
  more = wire.hasMore === true && wire.until !== "",
): Page {
  const spaces = objectOf(wire.spaces ?? {});
  const results = listOf(wire.results);
  if (results.length !== pushed.length) {
    throw new BadReply("another result.");
  }
  return {
    changes: listOf(wire.serverChanges ?? wire.changes).map((change) => readChange(change)),
    cursor,
    more,
    joined: listOf(spaces.joined).map(textOf),
    left: listOf(spaces.left).map(textOf),
    unreadable: listOf(spaces.unreadable).map(textOf),
    results: pushed.map((sent, place) => readResult(objectOf(results[place]), sent)),
    conflicts: listOf(wire.conflicts).map((conflict) => readConflict(objectOf(conflict))),
    wire,
  };
}

function readResult(wire: JsonObject, { changeId }: Packed): Result {
  if ((wire.changeId ?? changeId) !== changeId) throw new BadReply("another change.");
  return {
    changeId,
    status: oneOf(STATUSES, wire.status),
    at: new Map(
      Object.entries(objectOf(wire.at ?? {})).map(([field, instant]) => [field, readInstant(instant)]),
    ),
    code: textOr(wire.code, "rejected"),
    detail: textOr(wire.detail, ""),
    field: textOr(wire.field, "") || null,
  };
}

/** A conflict as the wire has it. Raises BadReply. */
export function readConflict({ spaceId, ...said }: JsonObject): Conflict {
  textOf(said.table);
  textOf(said.id);
  const conflict = { kind: "lost", mine: said.clientValue, theirs: said.serverValue, ...said };
  return { ...(conflict as unknown as Conflict), space: spaceKey(textOr(spaceId, "")) || null };
}

/** Reads a refusal; one that is not of the server's making has the code `http_<status>`. */
export function readProblem(status: number, body: string): Problem {
  try {
    const wire = objectOf(parse(body));
    return {
      status,
      code: textOf(wire.code),
      detail: textOr(wire.detail, textOr(wire.title, "")),
      errors: listOf(wire.errors),
    };
  } catch {
    return { status, code: `http_${status}`, detail: "The answer is not syncd's.", errors: [] };
  }
}
