/** Names that may be surprising, through a real server: between databases of RxDB and our own replicas. */

import { randomUUID } from "node:crypto";
import { createRxDatabase, type RxCollection } from "rxdb";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { expect, it } from "vitest";
import { open } from "./devices.js";
import { databases, device, onServer, SCHEMA, server, settled, type Task, user } from "./rxdb-devices.js";
import { NAMES } from "./vectors.js";

/** What RxDB itself takes as the id of a document, and can replicate: it keeps documents in objects by their ids. */
const TAKEN = NAMES.filter(
  ({ called }) => called && called.trim() === called && !/["\r\n]/.test(called) && !(called in {}),
);

async function collection(): Promise<RxCollection<Task>> {
  const database = await createRxDatabase({ name: `db-${randomUUID()}`, storage: getRxStorageMemory() });
  databases.push(database);
  const id = { type: "string", maxLength: 600 } as const;
  const schema = { ...SCHEMA, properties: { ...SCHEMA.properties, id } };
  return (await database.addCollections({ tasks: { schema } })).tasks as unknown as RxCollection<Task>;
}

it("documents and records of such ids are the same ones, and what is no id is refused alone", async () => {
  const token = await user();
  const [one, two] = [
    await device(token, { tasks: await collection() }),
    await device(token, { tasks: await collection() }),
  ];
  for (const { called, name } of TAKEN) await one.tasks.insert({ id: called, title: name });
  const replica = await open({ url: server.url, token });
  for (const id of ["__proto__", "constructor"])
    await replica.put("tasks", id, { title: "RxDB cannot hold it" });
  await replica.sync();
  await settled(one, two);
  const valid = TAKEN.filter((one) => one.valid);
  const expected = new Map(valid.map(({ called, name }) => [called, name]));
  const held = Object.entries(await onServer(token)).filter(([id]) => !(id in {}));
  expect(new Map(held.map(([id, fields]) => [id, (fields as Task).title]))).toEqual(expected);
  const documents = (await two.tasks.find().exec()).map(({ id, title }) => [id, title] as const);
  expect(new Map(documents)).toEqual(expected);
  const refused = await one.replication.rejected();
  expect(refused.map(({ id }) => id).sort()).toEqual(
    TAKEN.filter((one) => !one.valid)
      .map(({ called }) => called)
      .sort(),
  );
});

it("tables, fields and spaces go from one replica to another", async () => {
  const token = await user();
  const [one, two] = [await open({ url: server.url, token }), await open({ url: server.url, token })];
  const valid = NAMES.filter((one) => one.valid);
  await one.batch((batch) => {
    for (const { called } of valid)
      batch.put(called, called, Object.fromEntries([[called, Object.fromEntries([[called, called]])]]));
  });
  await one.sync();
  expect(await one.rejected()).toEqual([]);
  await two.sync();
  for (const { called } of valid) {
    const row = await two.get(called, called);
    expect(Object.entries(row?.fields ?? {})).toEqual([[called, Object.fromEntries([[called, called]])]]);
  }
});
