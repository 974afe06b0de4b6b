/** A live sync's token: renewed in place, asked for again, and told from a line that is at fault. */

import { describe, expect, it } from "vitest";
import { until } from "./devices.js";
import { live, named, server } from "./live-script.js";

describe("the token", () => {
  function jwt(seconds: number): string {
    return `h.${btoa(JSON.stringify({ sub: "u", exp: Date.now() / 1000 + seconds, n: Math.random() }))}.s`;
  }

  it("is renewed in place before it ends", async () => {
    const { live: sync } = await live({ token: () => jwt(6) });
    await named(sync, "live");
    await until("renewed", () => server.frames("auth").length >= 2);
    expect(server.sockets).toHaveLength(1);
    expect(sync.state.name).toBe("live");
  });

  it("that is refused is asked for again at once, and silently", async () => {
    server.on.auth = [
      (_frame, socket) => {
        socket.close(4401);
        return null;
      },
    ];
    const { replica, live: sync } = await live({ token: () => jwt(100) });
    const names: string[] = [];
    replica.on((event) => event.kind === "state" && names.push(event.name));
    await named(sync, "live");
    expect(names).not.toContain("refused");
  });
});

describe("a login that is at fault", () => {
  it.each<[string, object, string, string]>([
    ["that has ended", { detail: "The token has expired." }, "unauthorized", "signed_out"],
    [
      "that is not believed",
      { detail: "The token's signature is not by the key that it names." },
      "unauthorized",
      "refused",
    ],
    ["that there is none of", { token: () => null }, "no_token", "signed_out"],
  ])("is told from a line that is: one %s", async (_, how, code, login) => {
    const { detail = "", ...options } = how as { detail?: string };
    server.on.auth = Array.from({ length: 9 }, () => (_frame, socket) => {
      socket.close(4401, detail);
      return null;
    });
    const { replica, live: sync } = await live(options, { refusedInterval: 60_000 });
    await named(sync, "refused");
    expect(sync.state).toMatchObject({ code, login });
    expect((await replica.status()).live.login).toBe(login);
    if (detail) expect(sync.state.detail).toBe(detail);
  });

  it("is none where the line is", async () => {
    const { live: sync } = await live({ token: () => Promise.reject(new Error("no line")) });
    await named(sync, "offline");
    expect(sync.state.login).toBeUndefined();
  });
});
