/**
 * @syncd/client/spaces: spaces, their members, invitations, links and blocks, asked of the server: functions on a Replica.
 *
 * What comes of them in the replica (a space that is joined, one that was left) comes with its next sync. All raise
 * InvalidQuery for what can be no id, Refused with the server's code, NotAllowed (`forbidden`), Offline, ServerBusy (a bound
 * on how often: `retryAfter` says when again), NotConnected, BadReply. What is to be gone and is gone already is no error.
 */

import type { AnyTables, FieldsOf, TableOf, WriteOptions } from "./batch.js";
import { listOf, newId, objectOf, textOf } from "./data/change.js";
import type { Row } from "./data/row.js";
import { dump, type Json, type JsonObject } from "./data/values.js";
import { Refused } from "./errors.js";
import type { Query, QueryOptions, RecordView, Where } from "./query.js";
import type { Replica } from "./replica.js";
import { type ApiCall, apiClientOf, ask, segment } from "./sync/request.js";
import { update } from "./update.js";

export { NoSuchRecord } from "./errors.js";
export { update } from "./update.js";

export type Role = "owner" | "writer" | "reader";
type AnyReplica = Pick<Replica, "push">;

/** A space; `role` is the user's in it. `createdAt` is RFC 3339 text. */
export interface Space {
  readonly id: string;
  readonly name: string;
  readonly role: Role;
  readonly createdAt: string;
}

/** A member of a space, since `joinedAt`; or who was invited (`joinedAt` is null) by `invitedBy`, at `invitedAt`. */
export interface Member {
  readonly user: string;
  readonly role: Role;
  readonly joinedAt: string | null;
  readonly invitedBy: string | null;
  readonly invitedAt: string | null;
}

/**
 * A link to a space, by which `uses` users become members, `used` of them so far, until `expiresAt` (RFC 3339 text). `token`
 * is what the link holds: who has it may join. It is there when the link is made, and null afterwards.
 */
export interface Link {
  readonly id: string;
  readonly role: Role;
  readonly uses: number;
  readonly used: number;
  readonly createdBy: string;
  readonly createdAt: string;
  readonly expiresAt: string;
  readonly token: string | null;
}

/** `expiresIn`: seconds, a week if it is not given, 30 days at most. `uses`: 1 if it is not given, 1,000 at most. */
export interface LinkOptions {
  readonly uses?: number;
  readonly expiresIn?: number;
}

/** What the user is invited to: `name` is the space's. `invitedAt` is RFC 3339 text. */
export interface Invitation {
  readonly space: string;
  readonly name: string;
  readonly role: Role;
  readonly invitedBy: string;
  readonly invitedAt: string;
}

/** The spaces that the user is in. */
export async function spaces(replica: AnyReplica): Promise<Space[]> {
  return listFrom((await own(replica, "GET", "/spaces")).spaces, readSpace);
}

/**
 * Makes a space, which the user owns. Without `id` it gets a UUID, made here: a request that is repeated makes one.
 */
export async function createSpace(
  replica: AnyReplica,
  name: string,
  id: string | null = null,
): Promise<Space> {
  return readSpace(await own(replica, "POST", "/spaces", { id: id ?? newId(Date.now()), name }));
}

/** Gives a space another name, as one of its owners. The devices of its members are told with their next page. */
export async function rename(replica: AnyReplica, space: string, name: string): Promise<Space> {
  return readSpace(await own(replica, "PATCH", ofSpace(space), { name }));
}

/** Leaves a space. Raises Refused `last_owner`. */
export async function leave(replica: AnyReplica, space: string): Promise<void> {
  await remove(replica, `${ofSpace(space)}/membership`);
}

/** Ends a space, for all its members. */
export async function deleteSpace(replica: AnyReplica, space: string): Promise<void> {
  await remove(replica, ofSpace(space));
}

/** The members of a space. */
export async function members(replica: AnyReplica, space: string): Promise<Member[]> {
  return listFrom((await own(replica, "GET", `${ofSpace(space)}/members`)).members, readMember);
}

/** The users invited to a space, for its owners. */
export async function invited(replica: AnyReplica, space: string): Promise<Member[]> {
  return listFrom((await own(replica, "GET", `${ofSpace(space)}/members`)).invited, readMember);
}

/** Adds a user to a space, or invites them where the server asks users; changes the role of one who is there. */
export async function putMember(
  replica: AnyReplica,
  space: string,
  user: string,
  role: Role = "writer",
): Promise<Member> {
  return readMember(
    await own(replica, "PUT", `${ofSpace(space)}/members/${segment("the user", user)}`, { role }),
  );
}

/** Removes a member, withdraws an invitation, or (the user's own id) leaves the space. */
export async function removeMember(replica: AnyReplica, space: string, user: string): Promise<void> {
  await remove(replica, `${ofSpace(space)}/members/${segment("the user", user)}`);
}

/**
 * Invites by a link, as an owner: its `token` makes users members. Put it behind the `#` of an address of your application, which no
 * server writes down. A request whose answer was lost and that is repeated makes two links; the other one ends by itself.
 */
export async function inviteLink(
  replica: AnyReplica,
  space: string,
  role: "writer" | "reader" = "writer",
  options: LinkOptions = {},
): Promise<Link> {
  return readLink(await own(replica, "POST", linksOf(space), { role, ...options }));
}

/** The links to a space that are in force, without their tokens, for its owners. */
export async function links(replica: AnyReplica, space: string): Promise<Link[]> {
  return listFrom((await own(replica, "GET", linksOf(space))).invitations, readLink);
}

/** Ends a link, by its id. Members who joined by it stay. */
export async function withdrawLink(replica: AnyReplica, space: string, link: string): Promise<void> {
  await remove(replica, `${linksOf(space)}/${segment("the link", link)}`);
}

/**
 * Joins a space by a link, or by what is behind its `#`. The records come with the next sync; a member stays as is. Raises
 * Refused `invitation_not_found` for whatever cannot be used, `limit_reached`.
 */
export async function acceptLink(replica: AnyReplica, link: string): Promise<Space> {
  return readSpace(await own(replica, "POST", "/invitations", { token: link.replace(/.*#/, "") }));
}

/** What the user is invited to. Nothing tells of a new one: ask when the application is opened. */
export async function invitations(replica: AnyReplica): Promise<Invitation[]> {
  return listFrom((await own(replica, "GET", "/invitations")).invitations, readInvitation);
}

/**
 * Accepts an invitation. Its records come with the next sync. Raises Refused `invitation_not_found`, `limit_reached`.
 */
export async function accept(replica: AnyReplica, space: string): Promise<Space> {
  return readSpace(await own(replica, "POST", `${invitedTo(space)}/accept`));
}

/** Declines an invitation. */
export async function decline(replica: AnyReplica, space: string): Promise<void> {
  await remove(replica, invitedTo(space));
}

/** The users whom the user blocks. */
export async function blocks(replica: AnyReplica): Promise<string[]> {
  return listFrom((await own(replica, "GET", "/blocks")).blocks, ({ userId }) => textOf(userId));
}

/** Refuses what a user would add or invite this one to, and declines what they invited to. They are not told. */
export async function block(replica: AnyReplica, user: string): Promise<void> {
  await own(replica, "PUT", `/blocks/${segment("the user", user)}`);
}

/** Ends a block. */
export async function unblock(replica: AnyReplica, user: string): Promise<void> {
  await remove(replica, `/blocks/${segment("the user", user)}`);
}

function own(
  replica: AnyReplica,
  method: ApiCall["method"],
  path: string,
  body?: JsonObject,
): Promise<JsonObject> {
  const call = { method, path, own: true, params: {} };
  return ask(
    apiClientOf((replica as Replica)["exchange"]),
    body === undefined ? call : { ...call, body: dump(body) },
  );
}

/** Deletes it; the answer to an earlier request for that may have been lost. */
async function remove(replica: AnyReplica, path: string): Promise<void> {
  try {
    await own(replica, "DELETE", path);
  } catch (error) {
    if (!(error instanceof Refused && error.status === 404)) throw error;
  }
}

function ofSpace(space: string): string {
  return `/spaces/${segment("the space", space)}`;
}

function linksOf(space: string): string {
  return `${ofSpace(space)}/invitations`;
}

function invitedTo(space: string): string {
  return `/invitations/${segment("the space", space)}`;
}

function listFrom<T>(found: Json | undefined, read: (wire: JsonObject) => T): T[] {
  return listOf(found).map((wire) => read(objectOf(wire)));
}

function readSpace(wire: JsonObject): Space {
  const [id, name, createdAt] = [textOf(wire.id), textOf(wire.name), textOf(wire.createdAt)];
  return { id, name, role: textOf(wire.role) as Role, createdAt };
}

function readMember(wire: JsonObject): Member {
  return {
    user: textOf(wire.userId),
    role: textOf(wire.role) as Role,
    joinedAt: textOrNull(wire.joinedAt),
    invitedBy: textOrNull(wire.invitedBy),
    invitedAt: textOrNull(wire.invitedAt),
  };
}

function readLink(wire: JsonObject): Link {
  const [id, role, createdBy] = [textOf(wire.id), textOf(wire.role) as Role, textOf(wire.createdBy)];
  const [createdAt, expiresAt] = [textOf(wire.createdAt), textOf(wire.expiresAt)];
  const [uses, used] = [Number(wire.uses), Number(wire.used)];
  return { id, role, uses, used, createdBy, createdAt, expiresAt, token: textOrNull(wire.token) };
}

function readInvitation(wire: JsonObject): Invitation {
  const [space, name] = [textOf(wire.spaceId), textOf(wire.name)];
  const [invitedBy, invitedAt] = [textOf(wire.invitedBy), textOf(wire.invitedAt)];
  return { space, name, role: textOf(wire.role) as Role, invitedBy, invitedAt };
}

function textOrNull(value: Json | undefined): string | null {
  return typeof value === "string" ? value : null;
}

type Upsert = Omit<WriteOptions, "space">;

/** A replica's methods, without the space. */
export interface InSpace<S extends object = AnyTables> {
  put<T extends TableOf<S>>(table: T, id: string, fields: Partial<FieldsOf<S, T>>): Promise<string>;
  patch<T extends TableOf<S>>(
    table: T,
    id: string,
    fields: Partial<FieldsOf<S, T>>,
    options?: Upsert,
  ): Promise<string>;
  update<T extends TableOf<S>>(
    table: T,
    id: string,
    change: (row: Row<FieldsOf<S, T>>) => Partial<FieldsOf<S, T>>,
  ): Promise<string>;
  delete(table: TableOf<S>, id: string, options?: Upsert): Promise<string>;
  undelete(table: TableOf<S>, id: string, options?: Upsert): Promise<string>;
  get<T extends TableOf<S>>(
    table: T,
    id: string,
    options?: { readonly deleted?: boolean },
  ): RecordView<FieldsOf<S, T>>;
  query<T extends TableOf<S>>(
    table: T,
    where?: Where<FieldsOf<S, T>>,
    options?: Omit<QueryOptions<FieldsOf<S, T>>, "space">,
  ): Query<FieldsOf<S, T>>;
}

/** The methods of `replica`, each with its space at the end of what it is given. */
export function inSpace<S extends object>(replica: Replica<S>, space: string | null): InSpace<S> {
  const at =
    (name: string, place: number) =>
    (...given: unknown[]): unknown => {
      given[place] = { ...(given[place] as object), space };
      return (replica as unknown as Record<string, (...all: unknown[]) => unknown>)[name]?.(...given);
    };
  return {
    put: at("put", 3),
    patch: at("patch", 3),
    update: (table, id, change) => update(replica, table, id, change, { space }),
    delete: at("delete", 2),
    undelete: at("undelete", 2),
    get: at("get", 2),
    query: at("query", 2),
  } as InSpace<S>;
}
