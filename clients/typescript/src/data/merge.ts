/** Last writer wins, register by register. Pure: the same code merges what arrives and what is shown. */

import type { Instant } from "./clock.js";
import { compareText } from "./order.js";
import { type Json, same } from "./values.js";

export const TOMBSTONE = "deletedAt";

/**
 * One field of one record, with its stamp (`at`, `client`). `sent` is set where the server lowered the stamp: the
 * instant that the writer had put there.
 */
export interface Register {
  readonly value: Json;
  readonly at: Instant;
  readonly client: string;
  readonly sent?: Instant;
}

/** By field name. A map, because a field may be called `__proto__`. */
export type Registers = Map<string, Register>;

/**
 * Whether `incoming` replaces `held`: the greater (at, client), and at a tie what came later. A register and the
 * form of it that the server lowered are the same write, so the lowered form stands.
 */
export function wins(incoming: Register, held: Register): boolean {
  if (incoming.at === held.at) return compareText(incoming.client, held.client) >= 0;
  if (incoming.client === held.client) {
    if (incoming.sent === held.at) return true;
    if (held.sent === incoming.at) return false;
  }
  return incoming.at > held.at;
}

/** Merges `incoming` into `held`, in place. Whether anything changed. */
export function merge(held: Registers, incoming: Registers): boolean {
  let changed = false;
  for (const [field, register] of incoming) {
    const standing = held.get(field);
    if (standing === undefined || (!equal(standing, register) && wins(register, standing))) {
      held.set(field, register);
      changed = true;
    }
  }
  return changed;
}

function equal(one: Register, other: Register): boolean {
  const stamps = one.at === other.at && one.client === other.client && one.sent === other.sent;
  return stamps && same(one.value, other.value);
}

/**
 * What the application sees: the server's registers with its own unsent writes on top. A pending write wins a
 * tie against what the server sent, because it is merged last.
 */
export function overlay(base: Registers, pending: Iterable<Registers>): Registers {
  const view = new Map(base);
  for (const registers of pending) merge(view, registers);
  return view;
}

/** A record is deleted while its tombstone register is not null. */
export function isDeleted(registers: Registers): boolean {
  return (registers.get(TOMBSTONE)?.value ?? null) !== null;
}
