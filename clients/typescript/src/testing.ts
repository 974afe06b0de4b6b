/**
 * @syncd/client/testing: a real server for tests in Node, with a database that is thrown away. It runs the Python program
 * `syncd`, which has to be installed: SYNCD_PYTHON names the interpreter that has it, `python3` by default.
 */

import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";

/** Settings of `syncd serve`, by name: `{ max_changes: 100 }`. */
export type Settings = Readonly<Record<string, string | number | boolean | readonly string[]>>;
export type Role = "owner" | "writer" | "reader";

const REMEDY = "Set SYNCD_PYTHON to a Python that has the package syncd.";

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

interface Line {
  readonly network: number;
  readonly url: string;
}

interface Opened {
  readonly server: number;
  readonly directUrl: string;
  readonly databaseUrl: string;
  readonly runtimeUrl: string;
  readonly ownerUrl: string;
  readonly network: Line;
}

/** `python -m syncd.testing`. It answers in the order in which it is asked, and ends with this process. */
class Program {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting: Waiting[] = [];

  constructor(ended: () => void) {
    this.#child = spawn(process.env.SYNCD_PYTHON ?? "python3", ["-P", "-m", "syncd.testing"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#hear(line));
    const end = (why: string): void => {
      ended();
      for (const { reject } of this.#waiting.splice(0)) reject(new Error(why));
    };
    this.#child.on("error", (error) => end(`${error.message}. ${REMEDY}`));
    this.#child.on("exit", (code) => end(`python -m syncd.testing ended with ${code}. ${REMEDY}`));
    this.#child.stdin.on("error", () => {});
    this.#hold(false);
  }

  ask(what: string, how: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#hold(true);
      this.#child.stdin.write(`${JSON.stringify({ do: what, ...how })}\n`);
    });
  }

  #hear(line: string): void {
    const said = JSON.parse(line) as { answer?: unknown; error?: string };
    const asked = this.#waiting.shift();
    if (this.#waiting.length === 0) this.#hold(false);
    if (said.error === undefined) asked?.resolve(said.answer);
    else asked?.reject(new Error(said.error));
  }

  /** Whether Node waits for it: only while it owes an answer. */
  #hold(on: boolean): void {
    const how = on ? "ref" : "unref";
    this.#child[how]();
    for (const pipe of [this.#child.stdin, this.#child.stdout]) (pipe as unknown as Socket)[how]();
  }
}

let program: Program | null = null;

function ask(what: string, how: object): Promise<unknown> {
  program ??= new Program(() => {
    program = null;
  });
  return program.ask(what, how);
}

/** A line to a server, that is cut, slowed, or made to lose answers, for all connections over it. */
export class Network {
  /** The address at its near end. */
  readonly url: string;
  readonly #number: number;

  /** Made by `startServer` and `server.newNetwork()`. */
  constructor(line: Line) {
    this.url = line.url;
    this.#number = line.network;
  }

  /** Ends every connection and takes no new one: devices are offline. */
  async cut(): Promise<void> {
    await this.#be("cut");
  }

  /** Nothing arrives any more, either way, and no connection ends. */
  async silence(): Promise<void> {
    await this.#be("silence");
  }

  /** Requests arrive, and of their answers the first `after` bytes. */
  async dropReplies(after = 0): Promise<void> {
    await this.#be("drop_replies", { after });
  }

  /** So many bytes a second each way (0: as many as there are), each `delay` milliseconds late. */
  async slow(how: { bytesPerSecond?: number; delay?: number }): Promise<void> {
    await this.#be("slow", { bytes_per_second: how.bytesPerSecond ?? 0, delay: (how.delay ?? 0) / 1000 });
  }

  /** As it was in the beginning. */
  async mend(): Promise<void> {
    await this.#be("mend");
  }

  async #be(what: string, how: object = {}): Promise<void> {
    await ask("line", { network: this.#number, what, how });
  }
}

/**
 * The clock of devices: it runs as the machine's does, and a test moves it, in milliseconds. `Replica.open(name, { …, wall: clock.wall })`
 * takes it. Each reading is later than the one before, so devices that share one write in the order of the test. Give a device one of
 * its own to have it wrong: `new Clock(3_600_000)` is an hour ahead.
 */
export class Clock {
  #offset: number;
  #last = 0;
  #stopped: number | null = null;

  constructor(ahead = 0) {
    this.#offset = ahead;
  }

  /** A reading, in milliseconds since 1970. */
  readonly wall = (): number => {
    this.#last = Math.max(this.#last + 1, this.#stopped ?? Date.now() + this.#offset);
    return this.#last;
  };

  /** Moves it on. */
  forward(by: number): void {
    this.#move(by);
  }

  /** Moves it back: from here on its readings are earlier than those before. */
  back(by: number): void {
    this.#move(-by);
  }

  /** Sets it to a moment, from which it runs on; where it is stopped, it stays there. */
  set(to: Date): void {
    const moment = to.getTime();
    [this.#offset, this.#last] = [moment - Date.now(), moment - 1];
    if (this.#stopped !== null) this.#stopped = moment;
  }

  /** Stops it: each reading is a millisecond after the one before, until it is moved, or runs again. */
  stop(): void {
    this.#stopped = this.wall();
  }

  /** Lets it run again, from where it was stopped. */
  run(): void {
    if (this.#stopped === null) return;
    this.#offset = Math.max(this.#stopped, this.#last) - Date.now();
    this.#stopped = null;
  }

  #move(by: number): void {
    this.#offset += by;
    if (this.#stopped !== null) this.#stopped = Math.max(this.#stopped, this.#last) + by;
    // Moved on, it stays ahead of its last reading; moved back, it leaves that behind.
    this.#last = Math.min(this.#last, this.#last + by);
  }
}

/** A real server with a database of its own. Made by `startServer`. */
export class TestServer {
  /** Between the server and all that connects to `url`. */
  readonly network: Network;
  /** Its address past the network. */
  readonly directUrl: string;
  /** The database as an application's backend has it, as the role that serves, and as its superuser. */
  readonly databaseUrl: string;
  readonly runtimeUrl: string;
  readonly ownerUrl: string;
  readonly #number: number;

  /** Made by `startServer`. */
  constructor(opened: Opened) {
    this.#number = opened.server;
    this.network = new Network(opened.network);
    this.directUrl = opened.directUrl;
    this.databaseUrl = opened.databaseUrl;
    this.runtimeUrl = opened.runtimeUrl;
    this.ownerUrl = opened.ownerUrl;
  }

  /** Its address, over `network`; it stays the same when the server starts again. */
  get url(): string {
    return this.network.url;
  }

  /** A token for `ttl` seconds, 3600 unless given; with less than 0 it has expired. Further claims are put into it. */
  async token(
    user: string,
    claims: { readonly ttl?: number; readonly [claim: string]: unknown } = {},
  ): Promise<string> {
    return (await this.#ask("token", { user, claims })) as string;
  }

  /** Makes a space with members, by user and role; the first owner makes it. */
  async space(id: string, members: Readonly<Record<string, Role>>): Promise<string> {
    return (await this.#ask("space", { id, members })) as string;
  }

  /** Another line to the server, for a device that is to be offline alone. */
  async newNetwork(): Promise<Network> {
    return new Network((await this.#ask("network")) as Line);
  }

  /** What its workers wrote to standard error. */
  async output(): Promise<string> {
    return (await this.#ask("output")) as string;
  }

  /** Ends it in order. The data stay. */
  async stop(): Promise<void> {
    await this.#process("stop");
  }

  /** Ends it by SIGKILL, its workers too. What was acknowledged stays. */
  async kill(): Promise<void> {
    await this.#process("kill");
  }

  /** Starts it again after `stop` or `kill`, on the same port. */
  async start(): Promise<void> {
    await this.#process("start");
  }

  /** Ends it in order and starts it again, with `settings` in place of those that it had. */
  async restart(settings: Settings = {}): Promise<void> {
    await this.#process("restart", settings);
  }

  /** Ends it, and throws its database away. */
  async close(): Promise<void> {
    await this.#ask("close");
  }

  async #process(what: string, how: object = {}): Promise<void> {
    await this.#ask("process", { what, how });
  }

  #ask(what: string, how: object = {}): Promise<unknown> {
    return ask(what, { server: this.#number, ...how });
  }
}

/**
 * Starts a server. The first of a run takes two seconds, each after it some tenths. `env`: environment variables of its workers;
 * in their values `{database_url}`, `{runtime_url}` and `{owner_url}` are the addresses of its database, for rules that read it.
 */
export async function startServer(
  settings: Settings = {},
  { env = {} }: { readonly env?: Readonly<Record<string, string>> } = {},
): Promise<TestServer> {
  return new TestServer((await ask("open", { settings, env })) as Opened);
}
