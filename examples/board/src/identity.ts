/** The user of this tab. A name is all it takes; what the server gave for it is kept, so that it works offline too. */

/** `token` is a JWT; empty where it has to be asked for. */
export interface Identity {
  readonly name: string;
  readonly userId: string;
  readonly spaceId: string;
  readonly token: string;
}

const LAST = "board:last";
/** Seconds before its end that a token is replaced. */
const MARGIN = 60;

/** The user of this tab, else the one who signed in last; null if there is none. */
export function remembered(): Identity | null {
  const name = sessionStorage.getItem(LAST) ?? localStorage.getItem(LAST);
  const held = name && localStorage.getItem(placeOf(name));
  return held ? (JSON.parse(held) as Identity) : null;
}

/** Asks the server for a token, which also makes the user a member again. Raises Error with a reason to show. */
export async function signIn(name: string): Promise<Identity> {
  const answer = await fetch("/demo/token", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ name }),
  }).catch(() => {
    throw new Error("The server cannot be reached. A first visit needs it.");
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? said.title ?? `The server answered ${answer.status}.`);
  const identity = said as Identity;
  localStorage.setItem(placeOf(identity.name), JSON.stringify(identity));
  localStorage.setItem(LAST, identity.name);
  sessionStorage.setItem(LAST, identity.name);
  return identity;
}

/** This tab has no user any more; what the user wrote stays in the browser. */
export function signOut(): void {
  sessionStorage.removeItem(LAST);
  localStorage.removeItem(LAST);
}

/** A token that is valid for a while, from the store or from the server. */
export async function freshToken(name: string): Promise<string> {
  const held = localStorage.getItem(placeOf(name));
  const token = held ? (JSON.parse(held) as Identity).token : "";
  return expiry(token) - MARGIN > Date.now() / 1000 ? token : (await signIn(name)).token;
}

/** The server does not take the token: the next one is asked for. */
export function spendToken(name: string): void {
  const held = localStorage.getItem(placeOf(name));
  if (held) localStorage.setItem(placeOf(name), JSON.stringify({ ...JSON.parse(held), token: "" }));
}

/** A user id as a name. */
export function nameOf(userId: string): string {
  return userId.replace(/^demo:/, "");
}

function placeOf(name: string): string {
  return `board:user:${name}`;
}

function expiry(token: string): number {
  try {
    const [, payload = ""] = token.split(".");
    return JSON.parse(atob(payload.replace(/-/g, "+").replace(/_/g, "/"))).exp ?? 0;
  } catch {
    return 0;
  }
}
