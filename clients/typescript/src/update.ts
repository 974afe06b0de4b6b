/** Patches that are made of what a record says, with no other write of this device between. */

import { Batch, type FieldsOf, type Place, type TableOf } from "./batch.js";
import { type Row, rowOf } from "./data/row.js";
import { NoSuchRecord } from "./errors.js";
import type { Replica } from "./replica.js";

/**
 * Patches a record with what `change` makes of it, in one transaction: no other write of this device comes between. Returns
 * the changeId. Raises NoSuchRecord, InvalidWrite.
 */
export function update<S extends object, T extends TableOf<S>>(
  replica: Replica<S>,
  table: T,
  id: string,
  change: (row: Row<FieldsOf<S, T>>) => Partial<FieldsOf<S, T>>,
  place?: Place,
): Promise<string> {
  return patchHeld(replica, table, id, false, change, place);
}

/** As `update`; with `deleted` also a record that is deleted, which stays so. */
export async function patchHeld<S extends object, T extends TableOf<S>>(
  replica: Replica<S>,
  table: T,
  id: string,
  deleted: boolean,
  change: (row: Row<FieldsOf<S, T>>) => Partial<FieldsOf<S, T>>,
  place?: Place,
): Promise<string> {
  const [changeId = ""] = await replica["commit"](async (tx) => {
    const row = await tx.get("records", [replica["spaceOf"](place?.space), table, id]);
    if (!row || (row.deleted && !deleted)) throw new NoSuchRecord(`no record ${id}.`);
    const batch = new Batch<S>(replica["extra"], tx.meta.user);
    batch.patch(table, id, change(rowOf(row)), place);
    return batch.writes;
  });
  return changeId;
}
