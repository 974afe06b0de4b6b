/** What `like` costs: a text is looked at a few times, whatever the pattern. */

import { expect, it } from "vitest";
import { bordersOf, findLiteral, readPattern } from "../src/queries/patterns.js";

/** A text that counts how often one of its points is read. */
function counted(text: string): { points: string[]; reads: () => number } {
  let reads = 0;
  const points = new Proxy([...text], {
    get(target, name, receiver) {
      if (typeof name === "string" && /^\d+$/.test(name)) reads++;
      return Reflect.get(target, name, receiver);
    },
  });
  return { points, reads: () => reads };
}

it.each(["aaaab", "aabaa", "abababc"])("finds %s where it is, as looking everywhere does", (literal) => {
  const piece = [...literal];
  const borders = bordersOf(piece) as number[];
  let random = 7;
  for (let round = 0; round < 500; round++) {
    const text = Array.from({ length: 40 }, () => {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      return "aab"[random % 3];
    }).join("");
    for (const start of [0, 3, 11])
      expect(findLiteral(piece, borders, [...text], start, 40)).toBe(text.indexOf(literal, start));
  }
});

it("looks at each point of a text a few times only", () => {
  const piece = [..."a".repeat(2000), "b"];
  const { points, reads } = counted("a".repeat(8000));
  expect(findLiteral(piece, bordersOf(piece) as number[], points, 0, points.length)).toBe(-1);
  expect(reads()).toBeLessThan(2 * 8000);
});

it.each([
  ["%aab%", "aaab", true],
  ["%aab%c", "aaabc", true],
  ["%ab%ab%", "abab", true],
  ["%ab%ab%", "abba", false],
  ["a%%b", "ab", true],
  ["%", "", true],
  ["%a_c%", "xabcx", true],
])("%s of %s", (pattern, text, is) => {
  expect(readPattern(pattern)(text)).toBe(is);
});
