/** Newer Nodes have Web Locks. Tests say themselves which they mean. */

Object.defineProperty(globalThis, "navigator", { value: undefined, configurable: true });
