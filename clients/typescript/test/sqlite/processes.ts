/** Devices in processes of their own, which can be killed. */

import { type ChildProcessByStdio, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { newFolder } from "../files.js";

const SOURCE = fileURLToPath(new URL("device.ts", import.meta.url));

/** test/sqlite/device.ts as a program. */
export async function deviceProgram(): Promise<string> {
  const program = join(newFolder(), "device.mjs");
  const how = { bundle: true, platform: "node", format: "esm", target: "node22", outfile: program } as const;
  const external = ["vitest", "ws", "fake-indexeddb", "node:*"];
  await build({ entryPoints: [SOURCE], external, ...how, splitting: false, logLevel: "error" });
  return program;
}

export class DeviceProcess {
  /** What it said, line by line. */
  readonly told: string[] = [];
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #ended: Promise<string | number | null>;
  #heard: () => void = () => {};

  constructor(program: string, ...given: string[]) {
    this.#child = spawn(process.execPath, [program, ...given], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: this.#child.stdout });
    lines.on("line", (line) => {
      this.told.push(line);
      this.#heard();
    });
    const read = new Promise((resolve) => lines.once("close", resolve));
    this.#ended = new Promise((resolve, reject) => {
      this.#child.once("error", reject);
      this.#child.once("exit", (code, signal) => read.then(() => resolve(signal ?? code)));
    });
  }

  /** Until it has said so many lines. */
  async says(lines: number): Promise<void> {
    while (this.told.length < lines) await new Promise<void>((heard) => (this.#heard = heard));
  }

  kill(): Promise<string | number | null> {
    this.#child.kill("SIGKILL");
    return this.#ended;
  }

  /** Asks it to end. */
  end(): void {
    this.#child.stdin.write("end\n");
  }

  /** What it ended with: a signal, or a number. */
  ended(): Promise<string | number | null> {
    return this.#ended;
  }
}
