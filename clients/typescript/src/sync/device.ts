/** This device: its store, whose that is, and the id that it pushes under. */

import { checkSpace, newId } from "../data/change.js";
import type { Event } from "../data/events.js";
import { incarnate, takeName } from "../store/copied.js";
import { LIMITS, type Limits } from "../store/enqueue.js";
import { claimMeta, claimStore, openStore, type StoreOptions } from "../store/open.js";
import type { Store, Transaction } from "../store/store.js";
import { type Paces, pacesOf } from "./pace.js";
import type { Device } from "./session.js";
import { type Token, usersOf } from "./tokens.js";

/** The part of a replica's options that says what device it is. */
export interface DeviceOptions extends StoreOptions {
  readonly clientId?: string;
  readonly user?: string;
  readonly token?: Token;
  readonly schemaVersion?: number;
  readonly limits?: Partial<Limits>;
  readonly wall?: () => number;
  readonly partial?: Choosing | undefined;
}

/** What makes a choice for a store: whether it is another than before. `again`: it was opened before, as this client. */
export interface Choosing<S extends object = object> {
  (tx: Transaction, again: string): Promise<boolean>;
  readonly tables?: S;
}

/** The methods that a sync takes out of it keep their `this`. */
export class OwnDevice implements Device {
  declare readonly app: string;
  declare readonly schemaVersion: number | undefined;
  declare readonly limits: Limits;
  declare readonly paces: Paces;
  declare readonly wall: () => number;
  declare readonly publish: (event: Event) => void;
  declare store: Store;
  user = "";
  copiedFrom: string | null = null;
  /** Whether it was opened to keep something else than before. */
  chosen: boolean | undefined;
  /** What tells this opening of the store from every other one. */
  readonly #opening: string;
  readonly #restarted: (why?: string) => void;
  #client = "";

  /** `restarted`: the store goes on under another client id, or has a write that was given up. */
  constructor(
    app: string,
    { clientId, schemaVersion, limits, wall = Date.now }: DeviceOptions,
    publish: (event: Event) => void,
    restarted: (why?: string) => void,
  ) {
    this.app = app;
    this.schemaVersion = schemaVersion;
    this.limits = { ...LIMITS, ...limits };
    this.paces = pacesOf(this.limits);
    this.wall = wall;
    this.publish = publish;
    this.#restarted = restarted;
    this.#opening = clientId ? "" : newId(wall());
  }

  /** Opens its store, which is the user's of these options. Raises WrongReplica, StoreFailed. */
  async open(name: string, options: DeviceOptions): Promise<void> {
    const claimed = async (tx: Transaction): Promise<void> => {
      const client = claimStore(tx.meta, this.app, options.clientId, this.wall());
      for (const user of usersOf(options)) claimMeta(tx.meta, "user", user);
      this.user = tx.meta.user;
      this.chosen = await options.partial?.(tx, this.#client);
      this.#became(client);
    };
    this.store = await openStore(name, options, claimed, () => this.#restarted());
  }

  readonly client = (): string => this.#client;

  readonly checkUser = async (user: string): Promise<void> => {
    await this.store.write(async (tx) => claimMeta(tx.meta, "user", user));
    this.user = user;
  };

  readonly checkSpace = (space: string | null): string => checkSpace(space, this.user);

  readonly present = (): Promise<readonly string[] | undefined> =>
    this.store.write(async (tx) => incarnate(tx, this.#opening));

  readonly copied = async (): Promise<void> => {
    const client = await this.store.write(async (tx) => {
      // Where another tab has pushed since, or has been told, there is nothing to do but to push again.
      if (tx.meta.incarnations?.at(-1)?.includes(this.#opening)) await takeName(tx, newId(this.wall()));
      return tx.meta.client;
    });
    this.#became(client, "device_copied");
  };

  /** A store that was evicted while it was open has begun again, from zero, as another device; or it is a copy. */
  #became(client: string, why?: string): void {
    const before = this.#client;
    this.#client = client;
    if (!before || before === client) return;
    if (why) this.copiedFrom = before;
    this.#restarted(why);
  }
}
