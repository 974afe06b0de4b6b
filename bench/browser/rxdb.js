// RxDB as its guide to HTTP replication has it, with the storage that is free of charge in a browser.
import { createRxDatabase } from "rxdb";
import { replicateRxCollection } from "rxdb/plugins/replication";
import { getRxStorageDexie } from "rxdb/plugins/storage-dexie";

const schema = {
  version: 0,
  primaryKey: "id",
  type: "object",
  properties: {
    id: { type: "string", maxLength: 40 },
    title: { type: "string" },
    note: { type: "string" },
    list: { type: "string" },
    priority: { type: "number" },
    done: { type: "boolean" },
    updatedAt: { type: "number" },
  },
  required: ["id", "updatedAt"],
};

window.firstSync = async ({ url, batch }) => {
  const database = await createRxDatabase({ name: "tasks", storage: getRxStorageDexie() });
  const { tasks } = await database.addCollections({ tasks: { schema } });
  const replication = replicateRxCollection({
    collection: tasks,
    replicationIdentifier: "tasks",
    live: false,
    pull: {
      batchSize: batch,
      async handler(checkpoint, batchSize) {
        const { updatedAt, id } = checkpoint ?? { updatedAt: 0, id: "" };
        const answer = await fetch(`${url}/pull?updatedAt=${updatedAt}&id=${id}&limit=${batchSize}`);
        return answer.json();
      },
    },
  });
  replication.error$.subscribe((error) => console.error(error));
  await replication.awaitInitialReplication();
  return tasks;
};

window.readBack = async (tasks) =>
  (await tasks.find().exec()).map((document) => {
    const { _deleted, updatedAt, ...fields } = document.toJSON();
    return fields;
  });
