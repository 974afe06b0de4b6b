/** One table of one space, as pull and push see it: the server's side, and what is kept here of it. */

import type { ApiClient } from "../sync/request.js";
import type { Document, Shape } from "./documents.js";
import type { Shadow } from "./shadow.js";

/** A document as RxDB has it now, and when it wrote it, in milliseconds. */
export interface Written {
  readonly at: number;
  readonly document: Document;
}

export interface Feed {
  readonly table: string;
  /** "" is the personal space. */
  readonly space: string;
  readonly shape: Shape;
  readonly shadow: Shadow;
  readonly schemaVersion: number | null;
  apiClient(): Promise<ApiClient>;
  written(ids: readonly string[]): Promise<ReadonlyMap<string, Written>>;
  /** Reads and writes what is kept of the server, while nobody else does. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}
