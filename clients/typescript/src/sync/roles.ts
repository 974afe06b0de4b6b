/** What an answer says of the user's spaces: those that are new, or left, their names and the user's roles. */

import { listOf, objectOf, spaceKey, textOf, textOr } from "../data/change.js";
import type { JoinedSpace, SpacesChanged } from "../data/events.js";
import type { Transaction } from "../store/store.js";
import type { Page } from "./reply.js";

/**
 * Keeps what is told of spaces that the server has named, and takes note of up to where it was told. Returns what is otherwise
 * now; undefined where nothing is. Raises BadReply.
 */
export async function keepRoles(tx: Transaction, page: Page): Promise<SpacesChanged | undefined> {
  const { roles, rolesUntil } = objectOf(page.wire.spaces ?? {});
  const told: JoinedSpace[] = [];
  for (const { id, name, role } of listOf(roles ?? []).map(objectOf)) {
    const space = { id: textOf(id), name: textOf(name), role: textOf(role) };
    if ((await tx.get("spaces", [space.id])) === undefined) continue;
    tx.put("spaces", space);
    if (spaceKey(space.id)) told.push(space as JoinedSpace);
  }
  tx.meta.roles = textOr(rolesUntil, tx.meta.roles);
  const [joined, left] = [page.joined.filter(spaceKey), page.left.filter(spaceKey)];
  const said = joined.length + left.length + told.length > 0;
  return said ? { kind: "spaces", joined, left, role: told } : undefined;
}
