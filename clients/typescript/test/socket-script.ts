/** A WebSocket server that does as a test says: what it answers to each frame, when it closes, when it is mute. */

import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import type { Json, JsonObject } from "../src/index.js";

export type Frame = JsonObject & { readonly type: string };
type Handler = (frame: Frame, socket: WebSocket) => JsonObject | null;

/** A frame of changes. */
export function changes(wires: readonly Json[], other: JsonObject = {}): JsonObject {
  return {
    type: "changes",
    appId: "app",
    changes: wires,
    syncedUntil: "c1",
    hasMore: false,
    spaces: {},
    ...other,
  };
}

/** The answer to a push that did the same to everything. */
export function answered(push: Frame, status = "applied"): JsonObject {
  const sent = push.changes as { changeId: string }[];
  const results = sent.map(({ changeId }) => ({ changeId, status }));
  return { type: "push-result", requestId: push.requestId ?? null, results, conflicts: [] };
}

export class SocketScript {
  readonly heard: Frame[] = [];
  readonly sockets: WebSocket[] = [];
  /** What was pushed since the subscription before, with which the next one begins. */
  #taken: Json[] = [];
  /** By type: what the next frames of it are answered with, one handler each; then it agrees. */
  readonly on: { [type: string]: Handler[] } = {};
  mute = false;
  url = "";
  #server: WebSocketServer | null = null;

  async start(): Promise<void> {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    this.#server = server;
    server.on("connection", (socket) => this.#talk(socket));
    await new Promise((resolve) => server.once("listening", resolve));
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  #talk(socket: WebSocket): void {
    this.sockets.push(socket);
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      this.heard.push(frame);
      const answer = this.mute ? null : (this.on[frame.type]?.shift() ?? this.#agree)(frame, socket);
      if (answer !== null) socket.send(JSON.stringify(answer));
    });
  }

  frames(type: string): Frame[] {
    return this.heard.filter((frame) => frame.type === type);
  }

  /** Sends a frame on the newest socket. */
  say(frame: JsonObject): void {
    this.sockets.at(-1)?.send(JSON.stringify(frame));
  }

  readonly #agree = (frame: Frame): JsonObject | null => {
    if (frame.type === "push") {
      const clientId = this.frames("auth").at(-1)?.clientId ?? "";
      this.#taken.push(...(frame.changes as JsonObject[]).map((change) => ({ ...change, clientId })));
    }
    if (frame.type !== "subscribe") return agree(frame);
    return changes(this.#taken.splice(0), { spaces: { joined: ["_personal:u"] } });
  };

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.terminate();
    await new Promise((resolve) => this.#server?.close(resolve));
  }
}

function agree(frame: Frame): JsonObject | null {
  switch (frame.type) {
    case "auth":
      return { type: "auth-ok", userId: "u", serverTime: new Date().toISOString() };
    case "push":
      return answered(frame);
    case "ping":
      return { type: "pong" };
    default:
      return null;
  }
}
