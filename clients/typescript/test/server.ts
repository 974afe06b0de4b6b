/**
 * A real `syncd serve` as a subprocess. SYNCD_PYTHON names the interpreter that has the package `syncd`, TEST_DATA a data
 * directory with a database that nobody has written to: with it each begins with a copy, which is made in no time.
 */

import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const PYTHON = process.env.SYNCD_PYTHON ?? "python3";
const READY = /syncd is ready at (http:\/\/[^\s/]+:(\d+)\S*)/;
const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
// TEST_SERVER: as in tests/support/harness.py, an application that has syncd mounted below a path.
const [SERVE, MOUNTED] = process.env.TEST_SERVER
  ? [["-m", "tests.support.mounted"], { PYTHONPATH: REPOSITORY }]
  : [["-m", "syncd", "serve"], {}];

const SHIFTED = fileURLToPath(new URL("../../../tests/clock", import.meta.url));

export class RealServer {
  readonly #folder: string;
  #process: ChildProcess | null = null;
  #port = 0;
  #options: string[] = [];
  readonly #env: { [name: string]: string } = {};
  url = "";

  private constructor() {
    // Not only for its owner: when root runs the tests, the database runs as another user.
    this.#folder = mkdtempSync(join(tmpdir(), "syncd-ts-"));
    chmodSync(this.#folder, 0o755);
    if (process.env.TEST_DATA) execFileSync("cp", ["-a", process.env.TEST_DATA, join(this.#folder, "data")]);
  }

  /** Starts one; `options` are further ones of `syncd serve`. */
  static async start(...options: string[]): Promise<RealServer> {
    const server = new RealServer();
    server.#options = options;
    await server.start();
    return server;
  }

  /** Starts it, on the same port and with the same data each time. */
  async start(): Promise<void> {
    const options = ["--data-dir", join(this.#folder, "data"), "--port", String(this.#port)];
    const child = spawn(PYTHON, [...SERVE, ...options, ...this.#options], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...MOUNTED, ...this.#env },
    });
    this.#process = child;
    let said = "";
    await new Promise<void>((resolve, reject) => {
      child.stderr.on("data", (data: Buffer) => {
        said += String(data);
      });
      child.stdout.on("data", (data: Buffer) => {
        said += String(data);
        const match = READY.exec(said);
        if (match === null) return;
        this.url = match[1] ?? "";
        this.#port = Number(match[2]);
        resolve();
      });
      child.on("error", reject);
      child.on("exit", () => reject(new Error(`syncd serve did not become ready:\n${said}`)));
    });
  }

  async token(user: string, ...options: string[]): Promise<string> {
    if (options.length === 0) return this.#signed(user);
    const command = ["-m", "syncd", "token", user, "--data-dir", join(this.#folder, "data"), ...options];
    const { stdout } = await promisify(execFile)(PYTHON, command);
    return stdout.trim();
  }

  /** What the command makes, without the second that an interpreter takes to start. */
  #signed(user: string): string {
    const encoded = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const text = `${encoded({ alg: "HS256", typ: "JWT" })}.${encoded({ sub: user, iat: now, exp: now + 3600 })}`;
    const secret = readFileSync(join(this.#folder, "data", "jwt_secret"), "ascii").trim();
    return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
  }

  /** Compacts a space's log: what was deleted there is forgotten. */
  async forget(space: string): Promise<void> {
    const ages = ["--compact-history", "0", "--compact-tombstones", "0.001"];
    const options = [
      "--data-dir",
      join(this.#folder, "data"),
      "--space",
      space,
      ...ages,
      "--rest",
      "0",
      "--no-vacuum",
    ];
    await promisify(execFile)(PYTHON, ["-m", "syncd", "compact", ...options]);
  }

  /** Erases a record or a user for good, as an operator does. */
  async erase(...what: string[]): Promise<void> {
    const data = ["--data-dir", join(this.#folder, "data")];
    await promisify(execFile)(PYTHON, ["-m", "syncd", "erase", ...what, ...data]);
  }

  /** An HTTP request as a user. */
  async request(token: string, method: string, path: string, body?: object): Promise<unknown> {
    const response = await fetch(this.url + path, {
      method,
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body: body === undefined ? null : JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    return response.status === 204 ? null : response.json();
  }

  /** Starts it anew with a clock that is as many seconds off as is written into the file that is returned. */
  async shiftable(): Promise<string> {
    await this.stop();
    const clock = join(this.#folder, "clock");
    writeFileSync(clock, "0");
    Object.assign(this.#env, { PYTHONPATH: SHIFTED, TEST_CLOCK: clock });
    await this.start();
    return clock;
  }

  /** Puts a copy of its data aside, of when it was stopped. */
  async keep(): Promise<void> {
    await this.stop();
    await promisify(execFile)("cp", ["-a", join(this.#folder, "data", "pgdata"), join(this.#folder, "kept")]);
    await this.start();
  }

  /** Goes on with the data that was put aside. */
  async restore(): Promise<void> {
    await this.stop();
    const data = join(this.#folder, "data", "pgdata");
    rmSync(data, { recursive: true });
    renameSync(join(this.#folder, "kept"), data);
    await this.start();
  }

  async stop(): Promise<void> {
    const child = this.#process;
    this.#process = null;
    if (child === null || child.exitCode !== null) return;
    const over = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGTERM");
    await over;
  }

  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
