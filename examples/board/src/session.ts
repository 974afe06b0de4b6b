/** A signed-in user's replica, its connection, and the switch that cuts it. */

import { type Event, type Live, type LiveState, Replica } from "@syncd/client";
import { freshToken, type Identity, signIn, spendToken } from "./identity.js";
import { writeSamples } from "./samples.js";
import type { Tables } from "./tables.js";

export const APP = "board";

/** What the page shows of it. `removed`: the user is not a member any more. */
export interface Standing {
  readonly live: Live | null;
  readonly offline: boolean;
  readonly removed: boolean;
  /** Whether the server's data was here once, in this page's life. */
  readonly arrived: boolean;
}

export class Session {
  readonly identity: Identity;
  readonly replica: Replica<Tables>;
  readonly #listeners = new Set<() => void>();
  #standing: Standing = { live: null, offline: false, removed: false, arrived: false };
  #switching: Promise<void> = Promise.resolve();
  #looking: string | null = null;

  private constructor(identity: Identity, replica: Replica<Tables>) {
    this.identity = identity;
    this.replica = replica;
  }

  /** Opens the user's store, with or without a network. Raises SyncdError. */
  static async open(identity: Identity): Promise<Session> {
    const replica = await Replica.open<Tables>(`board:${identity.userId}`, {
      app: APP,
      url: location.origin,
      token: () => freshToken(identity.name),
      schemaVersion: 1,
      actor: { name: identity.name },
    });
    const session = new Session(identity, replica);
    replica.on((event) => session.#hear(event));
    window.addEventListener("storage", ({ key }) => {
      if (key === session.#switch) session.#follow();
    });
    session.#follow();
    return session;
  }

  get space(): string {
    return this.identity.spaceId;
  }

  get standing(): Standing {
    return this.#standing;
  }

  /** Calls `listener` when `standing` has changed. Returns how to stop it. */
  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Cuts every tab of this user off, or lets them connect again. It holds over a reload. */
  setOffline(offline: boolean): void {
    if (offline) localStorage.setItem(this.#switch, "1");
    else localStorage.removeItem(this.#switch);
    this.#follow();
  }

  get #switch(): string {
    return `board:offline:${this.identity.userId}`;
  }

  #follow(): void {
    const offline = localStorage.getItem(this.#switch) !== null;
    this.#stand({ offline });
    this.#switching = this.#switching.then(async () => {
      const { live } = this.#standing;
      if (this.#standing.offline && live !== null) {
        this.#stand({ live: null });
        await live.close();
      } else if (!this.#standing.offline && live === null) {
        this.#stand({ live: this.replica.live() });
        this.look(this.#looking);
      }
    });
  }

  /** Tells the others which card this user looks at. */
  look(card: string | null): void {
    this.#looking = card;
    this.#standing.live?.presence(this.space, { name: this.identity.name, card });
  }

  /** Becomes a member again. Raises Error with a reason to show. */
  async rejoin(): Promise<void> {
    await signIn(this.identity.name);
    this.#standing.live?.retryNow();
  }

  #hear(event: Event): void {
    if (event.kind === "state") this.#settle(event);
    if (event.kind === "state" || (event.kind === "changes" && event.source === "server"))
      void this.#checkMembership();
  }

  #settle({ name, code }: LiveState): void {
    if (name === "refused" && code === "unauthorized") spendToken(this.identity.name);
    if ((name !== "live" && name !== "polling") || this.#standing.arrived) return;
    this.#stand({ arrived: true });
    // Over HTTP nobody has said yet that everything is here.
    if (name === "live") void writeSamples(this.replica, this.space);
  }

  async #checkMembership(): Promise<void> {
    if (!this.#standing.arrived) return;
    const removed = !(await this.replica.spaces()).some(({ id }) => id === this.space);
    if (removed !== this.#standing.removed) this.#stand({ removed });
  }

  #stand(change: Partial<Standing>): void {
    this.#standing = { ...this.#standing, ...change };
    for (const listener of this.#listeners) listener();
  }
}
