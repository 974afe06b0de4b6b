/** The last minute as a picture: what was written above the line, what came below it, and whether there was a way. */

import { type ReactNode, useEffect, useState } from "react";
import type { Mark } from "../activity.js";
import { usePast } from "./context.js";

/** Milliseconds. */
const SPAN = 60_000;
const STEP = 1000;
const [WIDTH, HEIGHT] = [240, 28];

/** The time, once a second while the page is looked at and something is in the picture. */
function useNow(running: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => document.visibilityState === "visible" && setNow(Date.now()), STEP);
    return () => clearInterval(timer);
  }, [running]);
  return now;
}

export function Timeline({ offline }: { offline: boolean }): ReactNode {
  const { marks } = usePast();
  const last = marks.at(-1)?.at ?? 0;
  const [still, setStill] = useState(false);
  const now = Math.max(useNow(!still), last);
  useEffect(() => setStill(now - last > SPAN), [now, last]);
  const seen = marks.filter(({ at, count }) => now - at < SPAN && count > 0);
  const across = (at: number): number => WIDTH - ((now - at) / SPAN) * WIDTH;
  return (
    <svg
      className="timeline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={summary(seen)}
    >
      {bands(marks, now, offline).map(({ from, to, up }) => (
        <rect
          key={from}
          x={across(from)}
          width={Math.max(0, across(to) - across(from))}
          y={HEIGHT / 2 - 1}
          height={2}
          data-up={up}
        />
      ))}
      {seen.map((mark, place) => (
        <rect
          key={`${mark.at}-${mark.kind}-${place}`}
          data-kind={mark.kind}
          x={across(mark.at) - 1.5}
          width={3}
          rx={1}
          y={
            mark.kind === "received" || mark.kind === "accepted"
              ? HEIGHT / 2 + 2
              : HEIGHT / 2 - 2 - tall(mark)
          }
          height={tall(mark)}
        />
      ))}
    </svg>
  );
}

function tall({ count }: Mark): number {
  return Math.min(11, 4 + 2.4 * Math.log10(count + 1) * 2);
}

interface Band {
  readonly from: number;
  readonly to: number;
  readonly up: boolean;
}

/** When there was a connection, and when there was none. */
function bands(marks: readonly Mark[], now: number, offline: boolean): Band[] {
  const found: Band[] = [];
  let [from, up] = [now - SPAN, false];
  for (const { at, kind } of marks) {
    if (kind !== "up" && kind !== "down") continue;
    const next = Math.max(at, now - SPAN);
    if (next > from) found.push({ from, to: next, up });
    [from, up] = [next, kind === "up"];
  }
  return [...found, { from, to: now, up: up && !offline }];
}

function summary(seen: readonly Mark[]): string {
  const count = (kind: Mark["kind"]): number =>
    seen.filter((mark) => mark.kind === kind).reduce((sum, mark) => sum + mark.count, 0);
  return `In the last minute: ${count("wrote")} written here, ${count("accepted")} taken by the server, ${count("received")} received`;
}

/** How long the last writes took until the server had them, as a line. */
export function LagLine(): ReactNode {
  const { lags } = usePast();
  const last = lags.at(-1);
  if (last === undefined) return null;
  const most = Math.max(...lags.map(({ milliseconds }) => milliseconds), 1);
  const scale = (milliseconds: number): number => 22 - (Math.log1p(milliseconds) / Math.log1p(most)) * 18;
  const points = lags.map(
    ({ milliseconds }, place) => `${(place / Math.max(1, lags.length - 1)) * 60},${scale(milliseconds)}`,
  );
  const said = spoken(last.milliseconds);
  return (
    <span className="lag" title="From a write to the server's word that it is safe">
      <svg
        viewBox="0 0 60 24"
        width="60"
        height="24"
        role="img"
        aria-label={`The last write was safe after ${said}`}
      >
        <polyline
          points={
            lags.length === 1
              ? `0,${scale(last.milliseconds)} 60,${scale(last.milliseconds)}`
              : points.join(" ")
          }
        />
      </svg>
      <span aria-hidden="true">{said}</span>
    </span>
  );
}

function spoken(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
