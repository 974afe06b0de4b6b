/**
 * @syncd/client/query: conditions beyond those of the core, what is counted and grouped of the records that a query answers,
 * and the records that they are related to. What is made of a query is awaited or subscribed to as the query is.
 */

export type { Condition } from "../query.js";
export { type Asked, and, type MoreOperators, not, or, where } from "./conditions.js";
export { aggregate, groupBy, type Measure } from "./measures.js";
export { type IncludedRow, include, type Related } from "./related.js";
