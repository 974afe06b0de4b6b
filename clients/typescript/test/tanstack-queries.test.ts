/**
 * What TanStack DB's own suite for collections expects of one, of conditions, joins, pages, rows that come under a condition and leave
 * it, and subscriptions, with the records of a replica.
 */

import {
  and,
  BasicIndex,
  coalesce,
  count,
  createCollection,
  createLiveQueryCollection,
  eq,
  gt,
  gte,
  ilike,
  inArray,
  isNull,
  isUndefined,
  like,
  lower,
  lt,
  lte,
  not,
  or,
  Query,
} from "@tanstack/db";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Replica } from "../src/index.js";
import { syncdCollectionOptions } from "../src/tanstack/index.js";
import { until } from "./devices.js";
import { plain } from "./tanstack-items.js";

interface User {
  name: string;
  email: string | null;
  age: number;
  active: boolean;
  info: { city: string } | null;
  big: bigint;
  note?: string;
}
interface Post {
  user: string;
  title: string;
  views: number;
}
type Item = User & { id: string };
interface Comment {
  post: string;
  text: string;
}
interface Tables {
  users: User;
  posts: Post;
  comments: Comment;
}

const BIG = 2n ** 53n;
const NAMES = ["Alice", "Bob", "Carla", "Ægir", "Zoë"];
const USERS = Array.from({ length: 40 }, (_, n): User & { id: string } => ({
  id: `u${String(n).padStart(2, "0")}`,
  name: `${NAMES[n % 5]} ${n}`,
  email: n % 4 === 0 ? null : `user${n}@example.${n % 3 === 0 ? "org" : "com"}`,
  age: 20 + (n % 10) * 5,
  active: n % 2 === 0,
  info: n % 3 === 0 ? null : { city: n % 3 === 1 ? "Oslo" : "Rome" },
  big: BIG + BigInt(2 * n + 1),
  ...(n % 5 === 0 ? { note: "" } : {}),
}));
const POSTS = Array.from({ length: 60 }, (_, n): Post & { id: string } => ({
  id: `p${String(n).padStart(2, "0")}`,
  user: USERS[(n * 7) % 30]?.id ?? "",
  title: `Post ${n}`,
  views: n * 3,
}));
const COMMENTS = Array.from({ length: 30 }, (_, n): Comment & { id: string } => ({
  id: `c${String(n).padStart(2, "0")}`,
  post: POSTS[(n * 11) % 60]?.id ?? "",
  text: `Comment ${n}`,
}));

let replica: Replica<Tables>;
const options = { autoIndex: "eager", defaultIndexType: BasicIndex } as const;

function collections() {
  return {
    users: createCollection(syncdCollectionOptions({ replica, table: "users", ...options })),
    posts: createCollection(syncdCollectionOptions({ replica, table: "posts", ...options })),
    comments: createCollection(syncdCollectionOptions({ replica, table: "comments", ...options })),
  };
}
let users: ReturnType<typeof collections>["users"];
let posts: ReturnType<typeof collections>["posts"];
let comments: ReturnType<typeof collections>["comments"];

beforeAll(async () => {
  replica = await Replica.open<Tables>("queries", { app: "app", indexedDB: null });
  await replica.batch((batch) => {
    for (const { id, ...fields } of USERS) batch.put("users", id, fields);
    for (const { id, ...fields } of POSTS) batch.put("posts", id, fields);
    for (const { id, ...fields } of COMMENTS) batch.put("comments", id, fields);
  });
  ({ users, posts, comments } = collections());
});

afterAll(() => replica.close());

async function found(live: { preload(): Promise<void>; toArray: object[]; cleanup(): Promise<void> }) {
  await live.preload();
  const items = live.toArray.map((item) => plain(item) as { id: string });
  await live.cleanup();
  return items;
}

function byId<T extends { id: string }>(items: readonly T[]): T[] {
  return [...items].sort((one, other) => (one.id < other.id ? -1 : 1));
}

const fromUsers = () => new Query().from({ user: users });
type On = Parameters<ReturnType<typeof fromUsers>["where"]>[0];

describe("a condition", () => {
  const CASES: [string, On, (user: Item) => unknown][] = [
    ["equal text", ({ user }) => eq(user.name, "Alice 0"), ({ name }) => name === "Alice 0"],
    ["equal number", ({ user }) => eq(user.age, 25), ({ age }) => age === 25],
    ["equal boolean", ({ user }) => eq(user.active, true), ({ active }) => active],
    ["equal id", ({ user }) => eq(user.id, "u07"), ({ id }) => id === "u07"],
    ["null", ({ user }) => isNull(user.email), ({ email }) => email === null],
    ["no null", ({ user }) => not(isNull(user.email)), ({ email }) => email !== null],
    ["not there", ({ user }) => isUndefined(user.note), ({ note }) => note === undefined],
    ["unequal", ({ user }) => not(eq(user.name, "Alice 0")), ({ name }) => name !== "Alice 0"],
    ["greater", ({ user }) => gt(user.age, 50), ({ age }) => age > 50],
    ["at least", ({ user }) => gte(user.age, 50), ({ age }) => age >= 50],
    ["smaller", ({ user }) => lt(user.age, 30), ({ age }) => age < 30],
    ["at most", ({ user }) => lte(user.age, 30), ({ age }) => age <= 30],
    ["equal big integer", ({ user }) => eq(user.big, BIG + 7n), ({ big }) => big === BIG + 7n],
    ["greater big integer", ({ user }) => gt(user.big, BIG + 40n), ({ big }) => big > BIG + 40n],
    ["among", ({ user }) => inArray(user.age, [20, 45]), ({ age }) => age === 20 || age === 45],
    ["among none", ({ user }) => inArray(user.id, []), () => false],
    ["like", ({ user }) => like(user.name, "Alice%"), ({ name }) => name.startsWith("Alice")],
    ["like at the end", ({ user }) => like(user.email, "%.org"), ({ email }) => email?.endsWith(".org")],
    ["like within", ({ user }) => like(user.email, "u%1@%"), ({ email }) => /^u.*1@/.test(email ?? "")],
    ["like in any case", ({ user }) => ilike(user.name, "ÆGIR%"), ({ name }) => name.startsWith("Ægir")],
    ["of a lower text", ({ user }) => like(lower(user.name), "zoë%"), ({ name }) => name.startsWith("Zoë")],
    [
      "of what is there",
      ({ user }) => eq(coalesce(user.note, "none"), "none"),
      ({ note }) => note === undefined,
    ],
    ["in an object", ({ user }) => eq(user.info?.city, "Oslo"), ({ info }) => info?.city === "Oslo"],
    [
      "both",
      ({ user }) => and(eq(user.active, true), gt(user.age, 40)),
      (user) => user.active && user.age > 40,
    ],
    [
      "either, or both of others",
      ({ user }) => or(lt(user.age, 25), and(isNull(user.email), eq(user.active, true)), eq(user.id, "u39")),
      (user) => user.age < 25 || (user.email === null && user.active) || user.id === "u39",
    ],
    [
      "neither",
      ({ user }) => not(or(eq(user.active, true), gt(user.age, 30))),
      (user) => !user.active && user.age <= 30,
    ],
  ];
  it.each(CASES)("finds what is %s, whole", async (_what, condition, holds) => {
    const live = createLiveQueryCollection({ query: fromUsers().where(condition) });
    expect(byId(await found(live))).toEqual(USERS.filter(holds));
  });

  it("finds nothing where nothing is so, and all where there is none", async () => {
    expect(
      await found(createLiveQueryCollection({ query: fromUsers().where(({ user }) => gt(user.age, 500)) })),
    ).toEqual([]);
    expect(byId(await found(createLiveQueryCollection({ query: fromUsers() })))).toEqual(USERS);
  });
});

describe("pages", () => {
  const ordered = (items: readonly Item[]): string[] =>
    [...items].sort((one, other) => other.age - one.age || (one.id < other.id ? -1 : 1)).map(({ id }) => id);
  const inOrder = () =>
    fromUsers()
      .orderBy(({ user }) => user.age, "desc")
      .orderBy(({ user }) => user.id, "asc");

  it("are in the order of two fields, and follow each other", async () => {
    const expected = ordered(USERS);
    const all: string[] = [];
    for (let offset = 0; offset < 45; offset += 15)
      all.push(
        ...(await found(createLiveQueryCollection({ query: inOrder().limit(15).offset(offset) }))).map(
          ({ id }) => id,
        ),
      );
    expect(all).toEqual(expected);
  });

  it("are filled up and pushed on by what is written", async () => {
    const live = createLiveQueryCollection({ query: inOrder().limit(5) });
    await live.preload();
    const shown = (): string => live.toArray.map(({ id }) => id).join();
    const before = ordered(USERS).slice(0, 5);
    expect(shown()).toBe(before.join());
    await replica.put("users", "x1", { age: 900 });
    await until("pushed on", () => shown() === ["x1", ...before.slice(0, 4)].join());
    await replica.patch("users", "x1", { age: 1 });
    await until("filled up", () => shown() === before.join());
    await replica.put("users", "x1", { age: 800 });
    await until("again", () => shown().startsWith("x1"));
    await replica.delete("users", "x1");
    await until("gone", () => shown() === before.join());
    await live.cleanup();
  });
});

describe("a join", () => {
  const userOf = new Map(USERS.map((user) => [user.id, user]));
  const postOf = new Map(POSTS.map((post) => [post.id, post]));
  const sorted = (rows: readonly object[]): string[] => rows.map((row) => JSON.stringify(row)).sort();

  it("of two has each pair, and in a left one also what has no other", async () => {
    const query = (kind: "left" | "inner") =>
      fromUsers()
        .join({ post: posts }, ({ user, post }) => eq(user.id, post.user), kind)
        .select(({ user, post }) => ({ name: user.name, title: post?.title }));
    const pairs = POSTS.map(({ user, title }) => ({ name: userOf.get(user)?.name, title }));
    const alone = USERS.filter(({ id }) => POSTS.every(({ user }) => user !== id)).map(({ name }) => ({
      name,
    }));
    expect(alone.length).toBeGreaterThan(5);
    expect(sorted(await found(createLiveQueryCollection({ query: query("inner") })))).toEqual(sorted(pairs));
    expect(sorted(await found(createLiveQueryCollection({ query: query("left") })))).toEqual(
      sorted([...pairs, ...alone]),
    );
  });

  it("of three under conditions on each, in order, in part", async () => {
    const query = new Query()
      .from({ comment: comments })
      .innerJoin({ post: posts }, ({ comment, post }) => eq(comment.post, post.id))
      .innerJoin({ user: users }, ({ post, user }) => eq(post.user, user.id))
      .where(({ user }) => eq(user.active, true))
      .where(({ post }) => gt(post.views, 20))
      .orderBy(({ post }) => post.views, "desc")
      .limit(6)
      .select(({ comment, post, user }) => ({ text: comment.text, views: post.views, name: user.name }));
    const expected = COMMENTS.map(({ text, post }) => {
      const { user = "", views = 0 } = postOf.get(post) ?? {};
      return { text, views, name: userOf.get(user)?.name, active: userOf.get(user)?.active };
    })
      .filter(({ views, active }) => active && views > 20)
      .sort((one, other) => other.views - one.views)
      .slice(0, 6)
      .map(({ text, views, name }) => ({ text, views, name }));
    expect(expected).toHaveLength(6);
    expect(await found(createLiveQueryCollection({ query }))).toEqual(expected);
  });

  it("counts by group, and goes on when either side is written", async () => {
    const live = createLiveQueryCollection((q) =>
      q
        .from({ post: posts })
        .innerJoin({ user: users }, ({ post, user }) => eq(post.user, user.id))
        .where(({ user }) => eq(user.id, "u00"))
        .groupBy(({ user }) => user.name)
        .select(({ user, post }) => ({ name: user.name, posts: count(post.id) })),
    );
    await live.preload();
    const first = POSTS.filter(({ user }) => user === "u00").length;
    const shown = (): unknown => live.toArray.map(({ name, posts: of }) => [name, of]);
    expect(shown()).toEqual([["Alice 0", first]]);
    await posts.insert({ id: "px", user: "u00", title: "more", views: 0 }).isPersisted.promise;
    expect(shown()).toEqual([["Alice 0", first + 1]]);
    await replica.patch("users", "u00", { name: "Ann" });
    await until("the other side", () => JSON.stringify(shown()) === JSON.stringify([["Ann", first + 1]]));
    await replica.patch("users", "u00", { name: "Alice 0" });
    await posts.delete("px").isPersisted.promise;
    expect(shown()).toEqual([["Alice 0", first]]);
    await live.cleanup();
  });
});

describe("a subscription", () => {
  it("hears of a row that comes under the condition, changes there, leaves it and comes again", async () => {
    const live = createLiveQueryCollection({ query: fromUsers().where(({ user }) => gt(user.age, 60)) });
    await live.preload();
    const before = live.size;
    const heard: string[] = [];
    const subscription = live.subscribeChanges((changes) => {
      for (const { type, key, value } of changes)
        if (!heardTwice(heard, type, key, value.age)) heard.push(`${type} ${key} ${value.age}`);
    });
    for (const age of [50, 70, 80, 10, 90]) {
      await replica.put("users", "mover", { name: "M", age });
      await until(`${age}`, () => users.get("mover")?.age === age);
    }
    await replica.delete("users", "mover");
    await until("gone", () => live.size === before);
    expect(heard).toEqual([
      "insert mover 70",
      "update mover 80",
      "delete mover 80",
      "insert mover 90",
      "delete mover 90",
    ]);
    subscription.unsubscribe();
    await replica.put("users", "mover", { age: 99 });
    await until("there", () => live.has("mover"));
    expect(heard).toHaveLength(5);
    await replica.delete("users", "mover");
    await live.cleanup();
  });

  it("of several queries is of one collection, which is read once", async () => {
    const fresh = createCollection(syncdCollectionOptions({ replica, table: "posts" }));
    const lives = [1, 2, 3].map((least) =>
      createLiveQueryCollection((q) =>
        q.from({ post: fresh }).where(({ post }) => gte(post.views, least * 30)),
      ),
    );
    const inserted: number[] = [];
    fresh.subscribeChanges((changes) => inserted.push(changes.length));
    await Promise.all(lives.map((live) => live.preload()));
    expect(lives.map(({ size }) => size)).toEqual(
      [1, 2, 3].map((least) => POSTS.filter(({ views }) => views >= least * 30).length),
    );
    expect(inserted.reduce((sum, each) => sum + each, 0)).toBe(POSTS.length);
    await Promise.all(lives.map((live) => live.cleanup()));
  });
});

function heardTwice(heard: readonly string[], type: string, key: string | number, age: unknown): boolean {
  return type === "update" && heard.at(-1)?.endsWith(`${key} ${age}`) === true; // whose `$synced` is another
}
