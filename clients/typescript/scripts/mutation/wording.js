/**
 * What an error says to people is not mutated. Its class and its code are what programs read, and what tests look at.
 * Says why a node of Babel's tree is left out, if it is.
 */
export function isDetail({ node, parentPath, listKey, key }) {
  if (node.type !== "StringLiteral" && node.type !== "TemplateLiteral") return undefined;
  const { type, callee } = parentPath?.node ?? {};
  if (type !== "NewExpression" || listKey !== "arguments" || key !== 0) return undefined;
  // Of a SyncdError the first argument is its code.
  return callee.name === "SyncdError" ? undefined : "what an error says to people";
}
