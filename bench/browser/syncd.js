// @syncd/client as its README has it: IndexedDB, every transaction flushed to the disk.
import { Replica } from "@syncd/client";

window.firstSync = async ({ url, token }) => {
  const replica = await Replica.open("tasks", { app: "bench", url, token });
  await replica.sync();
  return replica;
};

window.readBack = async (replica) => (await replica.query("tasks")).map(({ id, fields }) => ({ id, ...fields }));
