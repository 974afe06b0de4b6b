/** Spaces, invitations and blocks, with a server that asks. */

import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Replica } from "../src/index.js";
import {
  accept,
  acceptLink,
  block,
  blocks,
  createSpace,
  decline,
  deleteSpace,
  invitations,
  invited,
  inviteLink,
  leave,
  links,
  members,
  putMember,
  removeMember,
  rename,
  spaces,
  unblock,
  withdrawLink,
} from "../src/spaces.js";
import { open } from "./devices.js";
import { RealServer } from "./server.js";

let server: RealServer;
beforeAll(async () => {
  server = await RealServer.start("--invitations", "ask");
});
afterAll(() => server.remove());

async function device(name: string): Promise<{ user: string; replica: Replica }> {
  const user = `${name}-${randomUUID()}`;
  return {
    user,
    replica: await open({ url: server.url, token: await server.token(user), retry: { first: 1 } }),
  };
}

async function ids(replica: Replica): Promise<string[]> {
  return (await spaces(replica)).map(({ id }) => id);
}

describe("spaces", () => {
  it("are made without an id, and a member is asked", async () => {
    const [ann, bob] = [await device("ann"), await device("bob")];
    const made = await createSpace(ann.replica, "Garden");
    expect(made).toMatchObject({ name: "Garden", role: "owner" });
    expect((await createSpace(ann.replica, "Shed")).id).not.toBe(made.id);
    const asked = await putMember(ann.replica, made.id, bob.user, "reader");
    expect(asked).toMatchObject({ user: bob.user, role: "reader", joinedAt: null, invitedBy: ann.user });
    expect(await invited(ann.replica, made.id)).toEqual([asked]);
    expect((await members(ann.replica, made.id)).map(({ user }) => user)).toEqual([ann.user]);
    const [found] = await invitations(bob.replica);
    expect(found).toMatchObject({ space: made.id, name: "Garden", role: "reader", invitedBy: ann.user });
    expect(await ids(bob.replica)).not.toContain(made.id);

    await ann.replica.put("t", "r", { x: 1 }, { space: made.id });
    await ann.replica.sync();
    expect((await bob.replica.sync()).joined).not.toContain(made.id);
    for (const _ of [1, 2]) expect(await accept(bob.replica, made.id)).toMatchObject({ id: made.id });
    expect((await bob.replica.sync()).joined).toContain(made.id);
    expect(await bob.replica.get("t", "r", { space: made.id })).not.toBeNull();
    expect(await invited(ann.replica, made.id)).toEqual([]);

    await removeMember(bob.replica, made.id, bob.user);
    expect((await bob.replica.sync()).left).toEqual([made.id]);
    for (const _ of [1, 2]) await deleteSpace(ann.replica, made.id);
    expect(await ids(ann.replica)).not.toContain(made.id);
  });

  it("are declined, withdrawn, and refused from who is blocked", async () => {
    const [ann, bob] = [await device("ann"), await device("bob")];
    const { id } = await createSpace(ann.replica, "Garden", `garden-${randomUUID()}`);
    await putMember(ann.replica, id, bob.user);
    for (const _ of [1, 2]) await decline(bob.replica, id);
    await putMember(ann.replica, id, bob.user);
    await removeMember(ann.replica, id, bob.user);
    expect(await invitations(bob.replica)).toEqual([]);
    await expect(accept(bob.replica, id)).rejects.toMatchObject({ code: "invitation_not_found" });
    await block(bob.replica, ann.user);
    expect(await blocks(bob.replica)).toEqual([ann.user]);
    await expect(putMember(ann.replica, id, bob.user)).rejects.toMatchObject({ code: "member_refused" });
    await unblock(bob.replica, ann.user);
    expect((await putMember(ann.replica, id, bob.user)).invitedBy).toBe(ann.user);
    await expect(putMember(ann.replica, "..", bob.user)).rejects.toMatchObject({ code: "invalid_query" });
  });

  it("are joined by a link, which is shown without its token and withdrawn", async () => {
    const [ann, bob, eve] = [await device("ann"), await device("bob"), await device("eve")];
    const { id } = await createSpace(ann.replica, "Garden");
    const made = await inviteLink(ann.replica, id, "reader", { uses: 2, expiresIn: 60 });
    const { token, ...shown } = made;
    expect(shown).toMatchObject({ role: "reader", uses: 2, used: 0, createdBy: ann.user });
    for (const link of [`https://app.example/join?from=ann#${token}`, token ?? ""])
      expect(await acceptLink(bob.replica, link)).toMatchObject({ id, name: "Garden", role: "reader" });
    expect((await bob.replica.sync()).joined).toContain(id);
    expect(await links(ann.replica, id)).toEqual([{ ...shown, used: 1, token: null }]);
    for (const _ of [1, 2]) await withdrawLink(ann.replica, id, made.id);
    expect(await links(ann.replica, id)).toEqual([]);
    await expect(acceptLink(eve.replica, token ?? "")).rejects.toMatchObject({
      code: "invitation_not_found",
    });
    await expect(inviteLink(bob.replica, id)).rejects.toMatchObject({ code: "forbidden" });
  });

  it("get another name, and are left", async () => {
    const [ann, bob] = [await device("ann"), await device("bob")];
    const { id } = await createSpace(ann.replica, "Garden");
    const { token } = await inviteLink(ann.replica, id);
    expect(await acceptLink(bob.replica, token ?? "")).toMatchObject({ role: "writer" });
    expect(await rename(ann.replica, id, "Orchard")).toMatchObject({ id, name: "Orchard" });
    expect((await spaces(bob.replica)).find((space) => space.id === id)?.name).toBe("Orchard");
    await expect(rename(bob.replica, id, "His")).rejects.toMatchObject({ code: "forbidden" });
    await bob.replica.sync();
    for (const _ of [1, 2]) await leave(bob.replica, id);
    expect((await bob.replica.sync()).left).toEqual([id]);
    await expect(leave(ann.replica, id)).rejects.toMatchObject({ code: "last_owner" });
  });

  it("that was made again has nothing of the one before", async () => {
    const ann = await device("ann");
    const id = `again-${randomUUID()}`;
    await createSpace(ann.replica, "One", id);
    await ann.replica.put("t", "old", { x: 1 }, { space: id });
    await ann.replica.sync();
    await deleteSpace(ann.replica, id);
    await createSpace(ann.replica, "Two", id);
    const { left, joined } = await ann.replica.sync();
    expect([left, joined]).toEqual([[id], [id]]);
    expect(await ann.replica.get("t", "old", { space: id })).toBeNull();
    await ann.replica.put("t", "new", { x: 2 }, { space: id });
    expect((await ann.replica.sync()).pushed).toBe(1);
  });
});
