/**
 * @syncd/client/sets: a set in a record, with a field for each member. A list in one field is one value, of which the later
 * write wins. Here devices that add and remove different members while apart all have their way.
 */

import { checkId } from "./data/change.js";
import { compareText } from "./data/order.js";
import { InvalidWrite } from "./errors.js";

/** The fields that add members to the set `name`, for a put or patch. Raises InvalidWrite for what is no name. */
export function adding<N extends string>(
  name: N,
  ...members: readonly string[]
): { [field in `${N}:${string}`]: true } {
  return fieldsOf(name, members, true);
}

/** The fields that take members out of the set `name`. Raises InvalidWrite as `adding` does. */
export function removing<N extends string>(
  name: N,
  ...members: readonly string[]
): { [field in `${N}:${string}`]: null } {
  return fieldsOf(name, members, null);
}

/** The members of the set `name` in a record's fields, by code point. Raises InvalidWrite for what is no name of a set. */
export function members(fields: object, name: string): string[] {
  const prefix = `${checkSet(name)}:`;
  return Object.entries(fields)
    .filter(([field, value]) => value === true && field.startsWith(prefix))
    .map(([field]) => field.slice(prefix.length))
    .sort(compareText);
}

function fieldsOf<N extends string, T>(
  name: N,
  all: readonly string[],
  value: T,
): { [field in `${N}:${string}`]: T } {
  checkSet(name);
  const entries = all.map((member) => [fieldOf(name, member), value]);
  return Object.fromEntries(entries) as { [field in `${N}:${string}`]: T };
}

function fieldOf(name: string, member: string): string {
  if (typeof member !== "string" || member === "")
    throw new InvalidWrite(`a member of ${name} must be text that is not empty.`, name);
  return checkId(`a member of ${name}, as the field ${name}:…,`, `${name}:${member}`);
}

/** What is before the first colon is the set's name, so it has none itself. */
function checkSet(name: string): string {
  if (checkId("the name of a set", name).includes(":"))
    throw new InvalidWrite(`the name of a set has no colon, as ${name} has.`, name);
  return name;
}
