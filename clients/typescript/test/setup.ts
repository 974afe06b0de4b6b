/** What a browser has and older Nodes do not. */

import "fake-indexeddb/auto";
import { webcrypto } from "node:crypto";

globalThis.crypto ??= webcrypto as Crypto;
