/**
 * For Stryker: what an error says to people is not mutated. Its class and its code are what programs read, and what tests
 * look at.
 */

import { declareValuePlugin, PluginKind } from "@stryker-mutator/api/plugin";

function isDetail({ node, parentPath, listKey, key }) {
  if (node.type !== "StringLiteral" && node.type !== "TemplateLiteral") return false;
  const { type, callee } = parentPath?.node ?? {};
  if (type !== "NewExpression" || listKey !== "arguments" || key !== 0) return false;
  return callee.name !== "SyncdError"; // whose first argument is its code
}

export const strykerPlugins = [
  declareValuePlugin(PluginKind.Ignore, "wording", {
    shouldIgnore: (path) => (isDetail(path) ? "what an error says to people" : undefined),
  }),
];
