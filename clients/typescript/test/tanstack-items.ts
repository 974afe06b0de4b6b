/** What collections of TanStack DB show, without what it adds itself. */

export function plain(item: object | undefined): object | undefined {
  return item && Object.fromEntries(Object.entries(item).filter(([name]) => !name.startsWith("$")));
}

/** All items, by key. */
export function seen<T extends object>(collection: {
  entries(): Iterable<[string | number, T]>;
}): (T & { id: string })[] {
  const sorted = [...collection.entries()].sort(([one], [other]) => (one < other ? -1 : 1));
  return sorted.map(([, item]) => plain(item) as T & { id: string });
}
