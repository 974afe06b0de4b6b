// What TinyBase's own store makes of records, a JSON object a line on standard input:
// node tinybase_changes.js changes        prints a message a record, as a synchronizer sends it
// node tinybase_changes.js save FILE      writes them all to a file persister's file
import { createInterface } from 'node:readline';
import { createMergeableStore } from 'tinybase';
import { createFilePersister } from 'tinybase/persisters/persister-file';

const CONTENT_DIFF = 3;
const [mode, file] = process.argv.slice(2);
const store = createMergeableStore();
let number = 0;
if (mode === 'changes') {
  store.addDidFinishTransactionListener(() => {
    const id = String(number++).padStart(11, '0');
    process.stdout.write(JSON.stringify([id, CONTENT_DIFF, store.getTransactionMergeableChanges()]) + '\n');
  });
}
for await (const line of createInterface({ input: process.stdin })) {
  const { id, ...row } = JSON.parse(line);
  store.setRow('tasks', id, { id, ...row });
}
if (mode === 'save') await createFilePersister(store, file).save();
