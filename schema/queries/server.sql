-- The key that signs this server's cursors; read once, at start.
SELECT cursor_key FROM syncd.sync_server
