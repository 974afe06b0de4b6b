/** What the first visitor finds: a few lists, written through the client like everything else. */

import type { Replica } from "@syncd/client";
import { ranksBetween } from "@syncd/client/order";
import type { CardFields, Tables } from "./tables.js";

type Sample = Pick<CardFields, "title"> & Partial<CardFields>;

const SAMPLES: Readonly<Record<string, readonly Sample[]>> = {
  "To do": [
    {
      title: "Open this board in a second window",
      description: "Sign in there with another name, and watch.",
    },
    {
      title: "Switch one of them offline",
      description: "Edit this card in both windows: the same field, then different ones. Then come back.",
      labels: ["idea"],
    },
    { title: "Drag a card, or press Alt and an arrow key" },
    { title: "Reload while offline", description: "The page and what you wrote are still there." },
  ],
  Doing: [
    {
      title: "See who wrote what",
      description: "Open a card's history: each field, who wrote it, when and on which device.",
      labels: ["later"],
    },
    { title: "Find the bug", labels: ["bug", "urgent"] },
  ],
  Done: [{ title: "Sign in", description: "A name was enough." }],
};

/**
 * Writes them where there has never been a list. Two first visitors at once write the same ids, so there is one of
 * each.
 */
export async function writeSamples(replica: Replica<Tables>, space: string): Promise<void> {
  if ((await replica.query("lists", [], { space, deleted: true, limit: 1 })).length > 0) return;
  if (!(await replica.spaces()).some(({ id }) => id === space)) return;
  const titles = Object.keys(SAMPLES);
  const ranks = ranksBetween(null, null, titles.length);
  await replica.batch((batch) => {
    for (const [place, title] of titles.entries()) {
      const list = `sample-list-${place}`;
      batch.put("lists", list, { title, rank: ranks[place] ?? "a0" }, { space });
      const samples = SAMPLES[title] ?? [];
      const keys = ranksBetween(null, null, samples.length);
      for (const [index, sample] of samples.entries())
        batch.put(
          "cards",
          `sample-card-${place}-${index}`,
          { list, rank: keys[index] ?? "a0", ...sample },
          { space },
        );
    }
  });
}
