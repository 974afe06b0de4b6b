/** The scenarios of tests/vectors: what a device knows of its user's spaces, what it keeps, and what it refuses. */

import { IDBFactory } from "fake-indexeddb";
import { expect, it } from "vitest";
import { type JsonObject, type Queued, type Replica, SyncdError } from "../src/index.js";
import { type PartialOptions, partial } from "../src/partial.js";
import { open } from "./devices.js";
import { type Asked, AT_ONCE, Script } from "./script.js";
import { vectors } from "./vectors.js";

interface Place {
  readonly space: string | null;
  readonly id: string;
}

interface Answer {
  readonly asks: string;
  readonly since?: string;
  readonly wants?: JsonObject;
  readonly status?: number;
  readonly body: JsonObject;
}

const WANTS = ["spaces", "collection", "knownSpaces", "knownCollection"];

/** What a request says of what its device keeps and has, and of where it is. */
function wanted({ url, body }: Asked, { since = "" }: Answer): object {
  if (body)
    return { since, wants: Object.fromEntries(Object.entries(body).filter(([name]) => name === "pull")) };
  const said = WANTS.filter((name) => url.searchParams.has(name));
  const wants = Object.fromEntries(said.map((name) => [name, url.searchParams.getAll(name).sort()]));
  return { since: url.searchParams.get("since"), wants };
}

interface Step {
  readonly do: "sync" | "pull" | "write" | "requeue" | "reopen" | "nothing";
  readonly answers?: readonly Answer[];
  readonly choice?: PartialOptions<{ [table: string]: object }>;
  readonly writes?: readonly (Place & { op: "put" | "patch" | "delete" | "undelete"; fields: JsonObject })[];
  readonly id?: string;
  readonly refused?: string;
  readonly fails?: string;
  readonly records?: readonly (Place & { fields: JsonObject | null })[];
}

type Scenarios = { readonly scenarios: readonly { readonly name: string; readonly steps: Step[] }[] };
const scenarios = ["roles", "partial"].flatMap((file) => vectors<Scenarios>(file).scenarios);

/** Plays one scenario, step by step. */
class Player {
  readonly #script = new Script();
  readonly #indexedDB = new IDBFactory();
  #replica: Promise<Replica> = this.#open();

  #open(choice?: Step["choice"]): Promise<Replica> {
    const { fetch } = this.#script;
    const server = { url: "http://server/", token: "t", retry: AT_ONCE, fetch };
    const partly = choice && { partial: partial(choice) };
    return open({ ...server, ...partly, name: "scenario", indexedDB: this.#indexedDB });
  }

  /** Does what a step says, and compares what it says that is so then. */
  async play(step: Step): Promise<void> {
    const { answers = [], refused, fails = refused, records = [] } = step;
    const { asked } = this.#script;
    asked.length = this.#script.answers.length = 0;
    for (const { status = 200, body } of answers)
      this.#script.answers.push(new Response(JSON.stringify(body), { status }));
    const code = await this.#do(step).then(
      () => undefined,
      (error: unknown) => (error instanceof SyncdError ? error.code : Promise.reject(error)),
    );
    expect(code).toBe(fails);
    const said = asked.map(({ url, body }) => (body ? body.roles : url.searchParams.get("roles")));
    expect(said).toEqual(answers.map(({ asks }) => asks));
    for (const [place, answer] of answers.entries())
      if (answer.wants)
        expect(wanted(asked[place] as Asked, answer)).toEqual({ since: answer.since, wants: answer.wants });
    expect({ ...step, ...(await this.#found(records, step)) }).toEqual(step);
  }

  async #do({ do: way, writes = [], id, choice }: Step): Promise<unknown> {
    const replica = await this.#replica;
    if (way === "sync" || way === "pull") return replica[way]();
    if (way === "write")
      return replica.batch((batch) => {
        for (const { op, id, fields, space } of writes)
          if (op === "put" || op === "patch") batch[op]("t", id, fields, { space });
          else batch[op]("t", id, { space });
      });
    if (way === "requeue") {
      const change = (await replica.rejected()).find((one) => one.id === id);
      return replica.requeue(change?.changeId ?? "");
    }
    if (way !== "reopen") return expect(way).toBe("nothing");
    await replica.close();
    this.#replica = this.#open(choice);
    return this.#replica;
  }

  /** What is so on the device, of that which the step has. */
  async #found(records: readonly Place[], step: Step): Promise<object> {
    const replica = await this.#replica;
    const ids = (queue: Queued[]): string[] => queue.map(({ id }) => id);
    const fields = async ({ space, id }: Place): Promise<object | null> =>
      (await replica.get("t", id, { space }))?.fields ?? null;
    const found = {
      spaces: await replica.spaces(),
      records: await Promise.all(
        records.map(async ({ space, id }) => ({ space, id, fields: await fields({ space, id }) })),
      ),
      pending: ids(await replica.pending()),
      rejected: ids(await replica.rejected()),
      aside: ids(await replica.keptAside()),
    };
    return Object.fromEntries(Object.entries(found).filter(([name]) => name in step));
  }
}

it.each(scenarios.map(({ name, steps }) => [name, steps] as const))("of a device: %s", async (_, steps) => {
  const player = new Player();
  for (const step of steps) await player.play(step);
});
