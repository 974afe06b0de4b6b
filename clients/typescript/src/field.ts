/**
 * @syncd/client/field: one field of a record, for an input. What is typed shows in the same tick, is written after a
 * pause, one write after the other, and never goes without a word.
 */

import type { AnyTables, FieldsOf, TableOf } from "./batch.js";
import { type Json, same } from "./data/values.js";
import { NoSuchRecord, StoreFailed, SyncdError } from "./errors.js";
import type { Replica } from "./replica.js";
import { patchHeld } from "./update.js";

/** Milliseconds from the last key to the write. */
const PAUSE = 300;

export interface FieldOptions {
  /** Where the record is; null, the default, is the user's personal space. */
  readonly space?: string | null;
  /** Milliseconds from the last key to the write, 300 by default. */
  readonly pause?: number;
  /**
   * Told what could not be written where nobody listens, or there is no replica yet; the console is told by default,
   * without the value.
   */
  readonly onUnwritten?: (value: Json, error: SyncdError | null) => void;
}

/** How a field stands. */
export interface FieldState<V> {
  /** What to show: what was typed, else what the record has; undefined where it has no such field. */
  readonly value: V | undefined;
  /** The record is not read yet: what is typed now would replace what nobody has seen. */
  readonly loading: boolean;
  /** What was typed is not in the store yet. */
  readonly dirty: boolean;
  /** What others wrote, or was there unread, under what was typed, which stands over it, or will: offer it. Else undefined. */
  readonly theirs: V | undefined;
  /** Why what was typed could not be written, or where it went: InvalidWrite, NoSuchRecord, StoreFailed. */
  readonly error: SyncdError | null;
}

/** A field of which nothing is known yet. */
export const NOT_READ: FieldState<never> = Object.freeze({
  value: undefined,
  loading: true,
  dirty: false,
  theirs: undefined,
  error: null,
});

/** The names of a table's fields, and what one of them holds. */
export type FieldName<S extends object, T extends TableOf<S>> = keyof FieldsOf<S, T> & string;
export type ValueOf<S extends object, T extends TableOf<S>, F extends FieldName<S, T>> = Exclude<
  FieldsOf<S, T>[F],
  undefined
>;

/** Where a field is read and written. `write` also writes to a record that is deleted; it raises NoSuchRecord. */
interface FieldEnd<V> {
  readonly name: string;
  readonly view: PromiseLike<Found<V> | null> & {
    subscribe(listener: (found: Found<V> | null) => void): () => void;
  };
  readonly field: string;
  write(value: V): Promise<unknown>;
}
type Found<V> = { readonly deletedAt: string | null; readonly fields: { readonly [field: string]: V } };

/**
 * The field of a record, for as long as somebody listens. It may be listened to again; when the last one leaves, what
 * was typed is written. Comes from `fieldOf`.
 */
export class Field<V> {
  readonly #end: FieldEnd<V>;
  readonly #options: FieldOptions;
  readonly #listeners = new Set<(state: FieldState<V>) => void>();
  #leave: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #current: FieldState<V> = NOT_READ;
  #read = false;
  #deleted = false;
  #stored: V | undefined;
  /** What was typed and is not known to be in the store, over `base`. */
  #typed: { readonly value: V } | null = null;
  #base: V | undefined;
  #theirs: V | undefined;
  #error: SyncdError | null = null;
  /** What is on its way into the store, and until when. */
  #writing: { readonly value: V } | null = null;
  #done: Promise<void> | null = null;
  /** What was told to be lost. */
  #lost: { readonly value: V } | null = null;
  /** What was typed by now is to be written. */
  #wanted = false;
  /** The input was left: what others wrote until then is no news to what is typed next. */
  #left = false;

  constructor(end: FieldEnd<V>, options: FieldOptions) {
    this.#end = end;
    this.#options = options;
  }

  /** How it stands; `loading` while nobody listens. The same object until something changes. */
  get current(): FieldState<V> {
    return this.#current;
  }

  /** Calls `listener` at once, and whenever `current` has changed. Returns how to stop it. */
  readonly subscribe = (listener: (state: FieldState<V>) => void): (() => void) => {
    const own = (state: FieldState<V>): void => listener(state);
    this.#listeners.add(own);
    if (this.#leave === null) this.#leave = this.#begin();
    else this.#tell(own);
    return () => {
      if (this.#listeners.delete(own) && this.#listeners.size === 0) void this.close();
    };
  };

  /** What was typed. It shows before this returns, and is written after the pause. */
  readonly set = (value: V): void => {
    if (this.#left || same(json(value), json(this.#theirs))) this.#theirs = undefined;
    this.#left = false;
    if (this.#typed === null) this.#base = this.#stored;
    if (this.#typed === null && this.#leave === null) this.#read = false; // nobody has looked since
    const stands = this.#read && this.#writing === null && same(json(value), json(this.#stored));
    this.#typed = stands ? null : { value };
    this.#error = null;
    clearTimeout(this.#timer);
    if (!stands) this.#timer = setTimeout(() => void this.#write(), this.#options.pause ?? PAUSE);
    this.#show();
  };

  /** Writes what was typed, as when the input is left. Whether all of it is in the store; `current.error` says why not. */
  readonly flush = async (): Promise<boolean> => {
    this.#left = true;
    await this.#write();
    return this.#typed === null;
  };

  /** What others wrote is seen: what was typed stays. */
  readonly dismiss = (): void => {
    this.#theirs = undefined;
    this.#show();
  };

  /** Writes what was typed, and tells nobody any more. Whether all of it is in the store; if not, `onUnwritten` is told. */
  readonly close = async (): Promise<boolean> => {
    this.#listeners.clear();
    this.#leave?.abort();
    this.#leave = null;
    return this.flush();
  };

  #begin(): AbortController {
    if (this.#typed === null) this.#read = false;
    const leave = new AbortController();
    const stop = this.#end.view.subscribe((found) => {
      this.#take(found);
      this.#show();
    });
    leave.signal.addEventListener("abort", stop);
    // A page that is put away may not come back.
    const hidden = (): void => {
      if (document.visibilityState === "hidden") void this.#write();
    };
    globalThis.document?.addEventListener("visibilitychange", hidden, { signal: leave.signal });
    if (!this.#show()) for (const listener of this.#listeners) this.#tell(listener);
    return leave;
  }

  /** Says once that what was typed could not be written, where nobody listens to hear it. */
  #lose(failed: { readonly value: V } | null): void {
    if (failed === null || failed !== this.#typed || failed === this.#lost || this.#listeners.size > 0)
      return;
    this.#lost = failed;
    unwritten(this.#end.name, failed.value, this.#error, this.#options);
  }

  // -- writing ---------------------------------------------------------------------------------------

  /** Until what was typed by now is in the store, or cannot be. */
  #write(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#typed === null) return Promise.resolve();
    this.#wanted = true;
    this.#done ??= this.#writeAll();
    return this.#done;
  }

  /** One write after the other: what is typed meanwhile waits. */
  async #writeAll(): Promise<void> {
    let failed: { readonly value: V } | null = null;
    while (this.#wanted && this.#typed !== null) {
      this.#wanted = false;
      const typed = this.#typed;
      this.#writing = typed;
      failed = null;
      await this.#writeOne(typed).catch((error: unknown) => {
        this.#error = error instanceof SyncdError ? error : new StoreFailed(error);
        failed = typed;
      });
      this.#writing = null;
      this.#show();
    }
    this.#done = null;
    this.#lose(failed);
  }

  async #writeOne(typed: { readonly value: V }): Promise<void> {
    if (!this.#read) {
      this.#take(await this.#end.view);
      this.#show(); // what was there is told before it is written over
    }
    // A text that was typed back to what was there says nothing, and takes nothing of others' away.
    const says = !same(json(typed.value), json(this.#base));
    if (says) await this.#end.write(typed.value);
    this.#error = null;
    if (says) await this.#written(typed.value);
    if (this.#typed !== typed) return;
    this.#typed = null;
    if (!same(json(typed.value), json(this.#stored))) this.#theirs = undefined; // it shows
  }

  /** Reads after a write. That it is in the store holds also where it cannot be read again. */
  async #written(value: V): Promise<void> {
    this.#base = value;
    try {
      this.#take(await this.#end.view);
    } catch {
      this.#stored = value;
    }
  }

  // -- reading ---------------------------------------------------------------------------------------

  /** What the store has now. */
  #take(found: Found<V> | null): void {
    const stored = found?.fields[this.#end.field];
    const changed = !same(json(stored), json(this.#stored));
    const first = !this.#read;
    this.#read = true;
    if (changed) this.#stored = stored;
    this.#deleted = found !== null && found.deletedAt !== null;
    if (this.#typed === null) {
      if (changed) this.#theirs = undefined; // it shows
    } else {
      if (first) this.#meet(this.#typed.value, changed);
      else if (changed) this.#compare(found === null ? this.#base : stored);
      this.#locate(found);
    }
    if (found !== null && !this.#deleted) this.#come();
  }

  /** What is in the store is read after something was typed, whose user has not seen it unless that was before. */
  #meet(typed: V, unseen: boolean): void {
    this.#base = this.#stored;
    if (unseen && !same(json(this.#stored), json(typed))) this.#theirs = this.#stored;
  }

  /** Something else is in the store than before, and under what was typed. */
  #compare(stored: V | undefined): void {
    if (this.#writing !== null && same(json(stored), json(this.#writing.value))) return; // our own
    this.#theirs = same(json(stored), json(this.#base)) ? undefined : stored;
  }

  /** Says where what was typed goes when the record is not there. */
  #locate(found: Found<V> | null): void {
    const { name } = this.#end;
    if (found === null) this.#error = new NoSuchRecord(`${name}: the record is not on this device.`);
    else if (this.#deleted)
      this.#error = new NoSuchRecord(`${name}: the record was deleted; undelete() brings this back too.`);
  }

  /** The record is there, or there again. */
  #come(): void {
    if (!(this.#error instanceof NoSuchRecord)) return;
    this.#error = null;
    if (this.#typed !== null && this.#writing === null) void this.#write();
  }

  // -- telling ---------------------------------------------------------------------------------------

  /** Whether anything has changed, which was told. */
  #show(): boolean {
    const { value, dirty, loading, theirs, error } = this.#current;
    const next: FieldState<V> = Object.freeze({
      value: this.#typed === null ? this.#stored : this.#typed.value,
      loading: !this.#read,
      dirty: this.#typed !== null,
      theirs: this.#theirs,
      error: this.#error,
    });
    const unchanged =
      next.value === value &&
      next.dirty === dirty &&
      next.loading === loading &&
      next.theirs === theirs &&
      next.error === error;
    if (unchanged) return false;
    this.#current = next;
    for (const listener of [...this.#listeners]) this.#tell(listener);
    return true;
  }

  #tell(listener: (state: FieldState<V>) => void): void {
    try {
      listener(this.#current);
    } catch (error) {
      console.error("syncd: a listener failed", error);
    }
  }
}

/** Says that what was typed in a field is not in the store. `error`: why, null where there was no store. */
export function unwritten(
  name: string,
  value: unknown,
  error: SyncdError | null,
  { onUnwritten }: FieldOptions,
): void {
  if (onUnwritten) onUnwritten(value as Json, error);
  else console.error(`syncd: what was typed in ${name} is not in the store`, error);
}

/** For comparisons: what no JSON is raises where it is written. */
function json(value: unknown): Json | undefined {
  return value as Json | undefined;
}

/**
 * A field of a record, to be typed into. It reads and writes as long as somebody listens. Raises InvalidQuery for what can
 * be no name.
 */
export function fieldOf<
  S extends object = AnyTables,
  T extends TableOf<S> = TableOf<S>,
  F extends FieldName<S, T> = FieldName<S, T>,
>(replica: Replica<S>, table: T, id: string, field: F, options: FieldOptions = {}): Field<ValueOf<S, T, F>> {
  type V = ValueOf<S, T, F>;
  const { space = null } = options;
  const view = replica.get(table, id, { space, deleted: true });
  const write = (value: V): Promise<string> => {
    const fields = { [field]: value } as unknown as Partial<FieldsOf<S, T>>;
    return patchHeld(replica, table, id, true, () => fields, { space });
  };
  return new Field<V>(
    { name: `${table}.${field}`, view: view as unknown as FieldEnd<V>["view"], field, write },
    options,
  );
}
