/** RxDB itself, replicated through a real server: shared spaces. */

import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createSpace, putMember, removeMember } from "../src/spaces.js";
import { open, until } from "./devices.js";
import { device, line, onServer, seen, server, settled, type Task, user } from "./rxdb-devices.js";

describe("a space", () => {
  interface Shared {
    readonly space: string;
    readonly owner: string;
    readonly member: string;
    readonly role: (role: string) => Promise<unknown>;
    readonly remove: () => Promise<unknown>;
  }

  async function shared(role: string): Promise<Shared> {
    const [space, name] = [`s-${randomUUID()}`, `member-${randomUUID()}`];
    const owner = await user();
    await server.request(owner, "POST", "/spaces", { id: space, name: "S" });
    const path = `/spaces/${space}/members/${name}`;
    const setRole = (role: string): Promise<unknown> => server.request(owner, "PUT", path, { role });
    await setRole(role);
    const remove = (): Promise<unknown> => server.request(owner, "DELETE", path);
    return { space, owner, member: await server.token(name), role: setRole, remove };
  }

  it("is replicated by itself", async () => {
    const { space, owner, member } = await shared("writer");
    const [one, two] = [await device(owner, { space }), await device(member, { space })];
    const personal = await device(member);
    await one.tasks.insert({ id: "milk", title: "Ours" });
    await personal.tasks.insert({ id: "milk", title: "Mine" });
    await until("it is there", () => seen(two));
    await settled(two, personal);
    expect(await seen(two)).toMatchObject({ title: "Ours" });
    expect(await seen(personal)).toMatchObject({ title: "Mine" });
    expect(await onServer(owner, space)).toEqual({ milk: { title: "Ours" } });
  });

  it("keeps a reader's edits apart, with the reason, until they are sent again or dropped", async () => {
    const { space, owner, member, role } = await shared("reader");
    const own = line();
    const [one, two] = [await device(owner, { space }), await device(member, { space, fetch: own.fetch })];
    await one.tasks.insert({ id: "milk", title: "Buy milk" });
    await settled(one, two);
    await two.tasks.findOne("milk").patch({ title: "Not mine to say" });
    await two.tasks.insert({ id: "new", title: "Nor this" });
    await until("both are refused", async () => (await two.replication.rejected()).length === 2);
    await settled(two);
    const rejected = await two.replication.rejected();
    expect(rejected.map(({ id, code, document }) => [id, code, document.title]).sort()).toEqual([
      ["milk", "not_a_writer", "Not mine to say"],
      ["new", "not_a_writer", "Nor this"],
    ]);
    expect(await seen(two)).toEqual({ id: "milk", title: "Buy milk" });
    expect(await seen(two, "new")).toBeNull();
    const pushes = own.asked.filter((asked) => asked.startsWith("POST")).length;
    await settled(two);
    expect(own.asked.filter((asked) => asked.startsWith("POST"))).toHaveLength(pushes);

    const told: number[] = [];
    const stop = two.replication.rejected$.subscribe((all) => told.push(all.length));
    const [milk, other] = ["milk", "new"].map((id) => rejected.find((one) => one.id === id)?.changeId ?? "");
    await expect(two.replication.retry(milk as string)).rejects.toMatchObject({ code: "not_a_writer" });
    await role("writer");
    await two.replication.retry(milk as string);
    await until("it is taken", async () => ((await seen(one)) as Task).title === "Not mine to say");
    await two.replication.drop(other as string);
    await settled(two);
    expect(await seen(two)).toEqual({ id: "milk", title: "Not mine to say" });
    expect(await two.replication.rejected()).toEqual([]);
    await until("it was told", () => told.at(-1) === 0);
    expect(told[0]).toBe(2);
    stop.unsubscribe();
  });

  it("whose member became a reader while away goes on, and an edit of before is kept apart", async () => {
    const { space, owner, member, role } = await shared("writer");
    const own = line();
    const [one, two] = [await device(owner, { space }), await device(member, { space, fetch: own.fetch })];
    await one.tasks.insert({ id: "milk", title: "Ours" });
    await until("it is there", () => seen(two));
    own.cut = true;
    await two.tasks.findOne("milk").patch({ title: "Written as a writer" });
    await role("reader");
    await one.tasks.insert({ id: "eggs", title: "Ours" });
    own.cut = false;
    await until("it is refused", async () => (await two.replication.rejected()).length === 1);
    await until("what others write comes", () => seen(two, "eggs"));
    await settled(one, two);
    const [rejected] = await two.replication.rejected();
    expect(rejected).toMatchObject({ id: "milk", code: "not_a_writer" });
    expect(await seen(two)).toMatchObject({ title: "Ours" });
    await role("writer");
    await two.replication.retry(rejected?.changeId ?? "");
    await until("it is taken", async () => ((await seen(one)) as Task).title === "Written as a writer");
  });

  it("that is joined later comes whole", async () => {
    const { space, owner, member, role, remove } = await shared("writer");
    await remove();
    const [one, two] = [await device(owner, { space }), await device(member, { space })];
    await one.tasks.insert({ id: "milk", title: "Ours" });
    await settled(one, two);
    expect(await seen(two)).toBeNull();
    await role("reader");
    await until("it is there", () => seen(two));
    expect(await seen(two)).toEqual({ id: "milk", title: "Ours" });
  });

  it("that was left is gone, and what was not sent is kept apart", async () => {
    const { space, owner, member, remove } = await shared("writer");
    const own = line();
    const [one, two] = [await device(owner, { space }), await device(member, { space, fetch: own.fetch })];
    await one.tasks.bulkInsert(["milk", "eggs"].map((id) => ({ id, title: "Ours" })));
    await until("they are there", async () => (await two.tasks.count().exec()) === 2);
    own.cut = true;
    await two.tasks.findOne("milk").patch({ title: "Unsent" });
    await remove();
    own.cut = false;
    await until("they are gone", async () => (await two.tasks.count().exec()) === 0);
    const rejected = await two.replication.rejected();
    expect(rejected.map(({ id, code, document }) => [id, code, document.title])).toEqual([
      ["milk", "space_not_found", "Unsent"],
    ]);
    await settled(one);
    expect(await seen(one)).toMatchObject({ title: "Ours" });
    expect(await one.tasks.count().exec()).toBe(2);
  });
});

describe("a space that a database is put back into", () => {
  it("has nothing of what was pushed there, and deleted, before it was read", async () => {
    const [name, other] = [`rx-${randomUUID()}`, `rx-${randomUUID()}`];
    const [member, owner] = [
      await server.token(name),
      await open({ url: server.url, token: await server.token(other) }),
    ];
    const { id: space } = await createSpace(owner, "Garden");
    await putMember(owner, space, name);
    await owner.put("tasks", "milk", { title: "Ours" }, { space });
    await owner.sync();
    let mute = false;
    const deaf: typeof fetch = async (address, options) => {
      if (mute && options?.method === "GET") throw new TypeError("cut");
      return fetch(address, options);
    };
    const two = await device(member, { space, fetch: deaf });
    await until("it is there", () => seen(two));
    await removeMember(owner, space, name);
    await until("it is gone", async () => (await seen(two)) === null);
    mute = true;
    await putMember(owner, space, name);
    await two.tasks.insert({ id: "new", title: "Mine" });
    await until("it was taken", async () => {
      await owner.sync();
      return owner.get("tasks", "new", { space });
    });
    await owner.delete("tasks", "new", { space });
    await owner.sync();
    mute = false;
    two.replication.state.reSync();
    await until("it is there again", () => seen(two));
    await until("what was deleted is gone", async () => (await seen(two, "new")) === null, 10_000);
    expect(await two.replication.rejected()).toEqual([]);
  });
});
