// The plain HTTP backend that RxDB's guide describes: documents after a checkpoint (updatedAt, id), in pages. The store is
// in this process, so it is as fast as one can be.
import { createServer } from "node:http";

const documents = [];

/** The first document after the checkpoint; they are in that order. */
function after(updatedAt, id) {
  let [low, high] = [0, documents.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const one = documents[middle];
    if (one.updatedAt < updatedAt || (one.updatedAt === updatedAt && one.id <= id)) low = middle + 1;
    else high = middle;
  }
  return low;
}

function pull(query) {
  const [updatedAt, id] = [Number(query.get("updatedAt")), query.get("id")];
  const start = after(updatedAt, id);
  const page = documents.slice(start, start + Number(query.get("limit")));
  const last = page.at(-1) ?? { updatedAt, id };
  return { documents: page, checkpoint: { updatedAt: last.updatedAt, id: last.id } };
}

async function fill(request) {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  for (const one of JSON.parse(Buffer.concat(pieces))) documents.push({ ...one, updatedAt: documents.length, _deleted: false });
  return { documents: documents.length };
}

const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
  const answer = pathname === "/fill" ? await fill(request) : pull(searchParams);
  response.writeHead(200, { "content-type": "application/json", "access-control-allow-origin": "*" });
  response.end(JSON.stringify(answer));
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
