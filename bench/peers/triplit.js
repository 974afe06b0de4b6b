// Triplit's own server over LMDB: node triplit.js FOLDER acknowledged|flushed. Prints its port.
// `flushed` lets a commit wait for the disk, as PostgreSQL does; without it LMDB flushes behind the answer.
import { createServer } from '@triplit/server';
import { LmdbKVStore } from '@triplit/db/storage/lmdb';
import { open } from 'lmdb';

const [folder, mode] = process.argv.slice(2);
const database = open(folder, mode === 'flushed' ? { overlappingSync: false } : {});
const start = await createServer({
  storage: new LmdbKVStore(database),
  jwtSecret: process.env.TRIPLIT_SECRET,
  projectId: 'bench',
  logHandler: { log() {}, startSpan() { return { end() {} }; } },
});
start(0, (info) => console.log(info.port));
