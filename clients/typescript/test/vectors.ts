/** The vectors that every implementation reads, of tests/vectors in the repository. */

import { readFileSync } from "node:fs";
import { type Json, parse } from "../src/data/values.js";

export function vectors<T>(name: string): T {
  const text = readFileSync(new URL(`../../../tests/vectors/${name}.json`, import.meta.url), "utf8");
  return parse(text) as unknown as T;
}

export interface NameCase {
  readonly name: string;
  readonly text: string;
  readonly times?: number;
  readonly valid: boolean;
  readonly newSpace?: boolean;
}

/** The names of names.json, each with its case. */
export const NAMES: readonly (NameCase & { readonly called: string })[] = vectors<NameCase[]>("names").map(
  (one) => ({ ...one, called: one.text.repeat(one.times ?? 1) }),
);

export type { Json };
