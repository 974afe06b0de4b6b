/**
 * For `make mutation-typescript`: tries the mutants that a test reaches right behind the test, in the process that has loaded
 * everything. Each mutant lies behind Stryker's switch, so that nothing is loaded again for it.
 */

import { appendFileSync, readFileSync } from "node:fs";
import { vi } from "vitest";
import { VitestTestRunner } from "vitest/runners";
import { getFn, getHooks } from "vitest/suite";

const NOTES = process.env.MUTATION_NOTES;
/** A busy machine may be late by itself, so that is tried twice. */
const LATE = "it never ends";
const wait = globalThis.setTimeout;
const over = globalThis.clearTimeout;
/** Stryker's switch: `activeMutant`, what a test reaches, and how often a mutant may be met before it counts as endless. */
const stryker = globalThis.__stryker__ ?? {};
globalThis.__stryker__ = stryker;
stryker.mutantCoverage ??= { static: {}, perTest: {} };

const wanted = new Set(JSON.parse(readFileSync(process.env.MUTATION_WANTED, "utf8")));

function note(...words) {
  appendFileSync(NOTES, `${JSON.stringify(words)}\n`);
}

function suitesOf(test) {
  const suites = [];
  for (
    let suite = test.suite ?? test.file;
    suite;
    suite = suite.suite ?? (suite.file === suite ? null : suite.file)
  )
    suites.unshift(suite);
  return suites;
}

async function before(test) {
  const ends = [];
  for (const suite of suitesOf(test))
    for (const hook of getHooks(suite).beforeEach) ends.push(await hook(test.context, suite));
  return ends.filter((end) => typeof end === "function").reverse();
}

async function after(test, ends) {
  for (const suite of suitesOf(test).reverse())
    for (const hook of getHooks(suite).afterEach) await hook(test.context, suite);
  for (const end of ends) await end();
}

/** What a test that failed half-way has not put back, and the one thing that a module of `src` remembers. */
async function restore() {
  stryker.activeMutant = undefined;
  const { readInstant } = await import("../../src/data/change.ts"); // the tests' own, which is not there before them
  readInstant("2001-01-01T00:00:00.000001Z");
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
}

async function inTime(work, patience) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = wait(() => reject(new Error(LATE)), patience);
  });
  try {
    await Promise.race([work(), late]);
  } finally {
    over(timer);
  }
}

async function whole(test, patience) {
  let ends = [];
  try {
    await inTime(async () => {
      ends = await before(test);
      await getFn(test)();
    }, patience);
  } finally {
    await restore();
    await inTime(() => after(test, ends), patience).catch(() => {});
  }
}

/** Why the test fails with this mutant; null where it does not. */
async function attempt(test, mutant, reached, patience) {
  Object.assign(stryker, { activeMutant: mutant, hitCount: 0, hitLimit: 1000 + 100 * reached });
  try {
    await whole(test, patience);
    return null;
  } catch (error) {
    return String(error?.message ?? error).slice(0, 80);
  } finally {
    Object.assign(stryker, { activeMutant: undefined, hitCount: undefined });
  }
}

/** A test that takes longer than so many milliseconds is slow: of those of a file, so many try a mutant. */
const SLOW = 100;
const MOST = 15;
const slowly = new Map();
let tests = 0;

export default class MutationRunner extends VitestTestRunner {
  async runTask(test) {
    await getFn(test)();
    await after(test, []);
    const name = `t${++tests}`;
    const began = performance.now();
    try {
      stryker.currentTestId = name;
      await whole(test, 60_000);
      stryker.currentTestId = undefined;
      const took = performance.now() - began;
      const patience = 1000 + 20 * took;
      for (const [mutant, reached] of Object.entries(stryker.mutantCoverage.perTest[name] ?? {})) {
        if (!wanted.has(mutant)) continue;
        if (took > SLOW) {
          const tried = slowly.get(mutant) ?? 0;
          if (tried >= MOST) continue;
          slowly.set(mutant, tried + 1);
        }
        note("tries", mutant, test.name);
        let why = await attempt(test, mutant, reached, patience);
        if (why === LATE) why = await attempt(test, mutant, reached, 3 * patience);
        note(why === null ? "survives" : "kills", mutant, test.name, why);
        if (why === null) continue;
        wanted.delete(mutant);
        await whole(test, 60_000); // else it has spoiled what comes after it
      }
    } catch (error) {
      stryker.currentTestId = undefined;
      note("unfit", test.name, String(error).slice(0, 200));
    }
    await before(test);
  }
}
