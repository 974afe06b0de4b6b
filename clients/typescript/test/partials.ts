/** Devices of a user that keep parts, and one that keeps all, with a line between them and a real server. */

import { randomUUID } from "node:crypto";
import { IDBFactory } from "fake-indexeddb";
import type { Replica, ReplicaOptions } from "../src/index.js";
import { type PartialOptions, partial } from "../src/partial.js";
import { open } from "./devices.js";
import type { RealServer } from "./server.js";

export type Choice = PartialOptions<{ [table: string]: object }>;
export const TABLES = ["cards", "lists", "notes"];

/**
 * A line to the server. `came`: the answers; `loses`: which of the next is lost, 0: none; `old`: whether the server is one of before,
 * which knows nothing of chosen spaces, nor of what its clients have.
 */
export class Line {
  readonly came: string[] = [];
  loses = 0;
  old = false;
  meanwhile: () => Promise<unknown> = async () => {};

  readonly fetch = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const url = new URL(String(input));
    if (this.old)
      for (const name of ["spaces", "knownSpaces", "knownCollection"]) url.searchParams.delete(name);
    const answer = await fetch(url, init);
    await this.meanwhile();
    this.loses -= 1;
    if (this.loses === 0) throw new TypeError("the line broke");
    this.came.push(await answer.clone().text());
    return answer;
  };
}

/** The devices of a user. Those of one name share a store. */
export class Devices {
  readonly user = `ada-${randomUUID()}`;
  readonly line = new Line();
  readonly #server: RealServer;
  readonly #app = `app-${randomUUID()}`;
  readonly #stores = new Map<string, IDBFactory>();

  constructor(server: RealServer) {
    this.#server = server;
  }

  async space(): Promise<string> {
    const id = `space-${randomUUID()}`;
    await this.#server.request(await this.token(), "POST", "/spaces", { id, name: id });
    return id;
  }

  token(user = this.user): Promise<string> {
    return this.#server.token(user);
  }

  async open(name = "whole", choice?: Choice, options: Partial<ReplicaOptions> = {}): Promise<Replica> {
    const indexedDB = this.#stores.get(name) ?? new IDBFactory();
    this.#stores.set(name, indexedDB);
    return open({
      name: `${this.user}-${name}`,
      app: this.#app,
      url: this.#server.url,
      token: await this.token(),
      fetch: this.line.fetch,
      retry: { attempts: 1 },
      indexedDB,
      ...(choice && { partial: partial(choice) }),
      ...options,
    });
  }

  /** Another tab makes a choice and is closed. */
  async choose(name: string, choice: Choice): Promise<void> {
    await (await this.open(name, choice)).close();
  }
}

/** The records of a replica that are not deleted, of a choice. */
export async function shown(replica: Replica, choice: Choice = {}): Promise<{ [key: string]: object }> {
  const rows = await replica["exchange"].parts.device.store.read((tx) => tx.all("records"));
  const of = (names: readonly (string | null)[] | "all" | undefined, name: string | null): boolean =>
    !names || names === "all" || names.includes(name);
  const kept = rows.filter(
    ({ space, table, deleted }) => !deleted && of(choice.spaces, space || null) && of(choice.tables, table),
  );
  const said = kept.map(({ space, table, id, view }) => {
    const fields = [...view].map(([field, { value, at, client }]) => [field, { value, at, client }]);
    return [`${space}/${table}/${id}`, Object.fromEntries(fields)];
  });
  return Object.fromEntries(said);
}
