// PouchDB as its guide has it, with batches of the size that the others have (its own is 100, and slower).
import PouchDB from "pouchdb/dist/pouchdb.js";

window.firstSync = async ({ url, batch }) => {
  const local = new PouchDB("tasks");
  await local.replicate.from(url, { batch_size: batch });
  return local;
};

window.readBack = async (local) => {
  const { rows } = await local.allDocs({ include_docs: true });
  return rows.map(({ doc: { _id, _rev, ...fields } }) => ({ id: _id, ...fields }));
};
