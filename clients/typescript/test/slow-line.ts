/** A TCP proxy that lets so many bytes a second through each way, and cuts connections when it is told to. */

import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

const TICK = 50;

export class SlowLine {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  url = "";

  private constructor(port: number, speed: number) {
    this.#server = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      this.#pass(near, far, speed);
      this.#pass(far, near, speed);
    });
  }

  /** In front of the server at `url`; `speed` in bytes a second. */
  static async to(url: string, speed: number): Promise<SlowLine> {
    const line = new SlowLine(Number(new URL(url).port), speed);
    await new Promise<void>((resolve) => line.#server.listen(0, "127.0.0.1", resolve));
    line.url = `http://127.0.0.1:${(line.#server.address() as AddressInfo).port}`;
    return line;
  }

  /** What is read waits for its time to be written, so the sender feels it. */
  #pass(from: Socket, to: Socket, speed: number): void {
    this.#sockets.add(from);
    const end = (): void => {
      clearInterval(timer);
      this.#sockets.delete(from);
      to.destroy();
    };
    const timer = setInterval(() => {
      const size = Math.min(from.readableLength, Math.ceil((speed * TICK) / 1000));
      const chunk = size > 0 ? (from.read(size) as Buffer | null) : null;
      if (chunk === null) return;
      to.write(chunk);
    }, TICK);
    from.on("readable", () => undefined); // or nothing is read at all
    from.on("close", end);
    from.on("end", () => setTimeout(end, TICK));
    from.on("error", end);
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
