/** A list in order, in blocks, so that a change copies a few of them and not the list. Pure. */

const BLOCK = 256;

/** It never changes: who has begun to read it reads on what was there. */
export class SortedBlocks<T> {
  readonly #blocks: readonly (readonly T[])[];
  /** How many there are before each block. */
  readonly #starts: readonly number[];
  declare readonly size: number;

  constructor(blocks: readonly (readonly T[])[] = []) {
    let size = 0;
    this.#blocks = blocks;
    this.#starts = blocks.map(({ length }) => {
      size += length;
      return size - length;
    });
    this.size = size;
  }

  /** The first place whose item, as all behind it, is so. */
  first(isSo: (item: T) => boolean): number {
    const n = firstOf(this.#blocks, (block) => isSo(block.at(-1) as T));
    const block = this.#blocks[n];
    return block ? (this.#starts[n] as number) + firstOf(block, isSo) : this.size;
  }

  at(place: number): T {
    const n = this.#blockAt(place);
    return (this.#blocks[n] as readonly T[])[place - (this.#starts[n] as number)] as T;
  }

  #blockAt(place: number): number {
    return firstOf(this.#starts, (start) => start > place) - 1;
  }

  *between(first: number, end: number): Generator<T> {
    let n = this.#blockAt(first);
    for (let place = first; place < end; n += 1) {
      const [block, start] = [this.#blocks[n] as readonly T[], this.#starts[n] as number];
      for (; place < end && place - start < block.length; place += 1) yield block[place - start] as T;
    }
  }

  /** Without the items that are gone, which are the very ones in it, and with those that have come. */
  changed(compare: (one: T, other: T) => number, gone: readonly T[], come: readonly T[]): SortedBlocks<T> {
    const blocks = this.#blocks[0] ? this.#blocks : [[]];
    const touched = new Map<number, { gone: Set<T>; come: T[] }>();
    const at = (item: T): { gone: Set<T>; come: T[] } => {
      const n = Math.max(0, firstOf(this.#blocks, ([least]) => compare(least as T, item) > 0) - 1);
      const held = touched.get(n) ?? { gone: new Set(), come: [] };
      touched.set(n, held);
      return held;
    };
    for (const item of gone) at(item).gone.add(item);
    for (const item of come) at(item).come.push(item);
    const renewed = blocks.flatMap((block, n) => {
      const change = touched.get(n);
      if (!change) return [block];
      const items = change.gone.size ? block.filter((item) => !change.gone.has(item)) : block.slice();
      for (const item of change.come)
        items.splice(
          firstOf(items, (held) => compare(held, item) >= 0),
          0,
          item,
        );
      return split(items);
    });
    return new SortedBlocks(renewed);
  }
}

/** As one block, or as several where it has grown: none where it is empty. */
function split<T>(items: readonly T[]): (readonly T[])[] {
  if (items.length <= BLOCK * 2) return items[0] === undefined ? [] : [items];
  const count = Math.ceil(items.length / BLOCK);
  return Array.from({ length: count }, (_, n) => items.slice(n * BLOCK, (n + 1) * BLOCK));
}

/** The first place in a list whose item, as all behind it, is so. */
function firstOf<T>(items: readonly T[], isSo: (item: T) => boolean): number {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isSo(items[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
