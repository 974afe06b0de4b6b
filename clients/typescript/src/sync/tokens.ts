/** Tokens: got from the application, checked, and what they claim. */

import { NotAllowed, Offline, SyncdError } from "../errors.js";
import { inTime } from "../timing.js";

/**
 * A JWT, or a function that returns one and is asked again when it was refused or is about to end; null where the user
 * has to sign in.
 */
export type Token = string | (() => MaybeToken | Promise<MaybeToken>);

type MaybeToken = string | null | undefined;

/** What a server takes of a token. */
const LARGEST = 16_384;

/** Where tokens come from; `timeout`: how long the application's function has to answer, in milliseconds. */
export interface TokenSource {
  readonly token: Token;
  readonly timeout: number;
}

/** A claim of a JWT, unverified; undefined where there is none, or no JWT, as in a function. */
export function claim(token: Token | undefined, name: string): unknown {
  try {
    const part = ((token as string).split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.codePointAt(0) as number);
    return (JSON.parse(new TextDecoder().decode(bytes)) as { [name: string]: unknown })[name];
  } catch {
    return undefined;
  }
}

/**
 * The token now, without the blanks around it. Raises NotAllowed where there is none to be had without the user
 * (`no_token`: the function gave none, raised it, or gave no answer in time), and for one that no server takes (`bad_token`,
 * `token_too_large`); Offline `no_token` where the function failed, which is a reason to try later.
 */
export async function freshToken(
  { token, timeout }: TokenSource,
  checkUser: (user: string) => Promise<void>,
): Promise<string> {
  const late = new NotAllowed(`no token in ${timeout} ms.`, "no_token");
  const given = typeof token === "string" ? token : await inTime(token, timeout, late).catch(tokenFailure);
  const fresh = typeof given === "string" ? given.trim() : "";
  if (!fresh) throw new NotAllowed("no token.", "no_token");
  if (fresh.length > LARGEST) throw new NotAllowed(`longer than ${LARGEST}.`, "token_too_large");
  if (!/^[!-~]+$/.test(fresh)) throw new NotAllowed("no header.", "bad_token");
  for (const user of usersOf({ token: fresh })) await checkUser(user);
  return fresh;
}

function tokenFailure(error: unknown): never {
  // It says that the user has to sign in: the same error, with the code for that.
  if (error instanceof NotAllowed) (error as { code: string }).code = "no_token";
  if (error instanceof SyncdError) throw error;
  throw new Offline("the token function failed", "no_token", error);
}

/** Whose the replica is to be, as far as that is known without asking. */
export function usersOf({ user, token }: { readonly user?: string; readonly token?: Token }): string[] {
  return [user, claim(token, "sub")].filter((name) => typeof name === "string");
}
