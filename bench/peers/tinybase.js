// TinyBase's WebSocket server with its own file persister: node tinybase.js FOLDER. Prints its port.
import { join } from 'node:path';
import { createMergeableStore } from 'tinybase';
import { createFilePersister } from 'tinybase/persisters/persister-file';
import { createWsServer } from 'tinybase/synchronizers/synchronizer-ws-server';
import { WebSocketServer } from 'ws';

const [folder] = process.argv.slice(2);
const sockets = new WebSocketServer({ port: 0, host: '127.0.0.1' });
createWsServer(sockets, (path) =>
  createFilePersister(createMergeableStore(), join(folder, `${encodeURIComponent(path)}.json`)),
);
sockets.on('listening', () => console.log(sockets.address().port));
