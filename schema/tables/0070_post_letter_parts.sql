-- Who was erased is looked up once for a message.
DROP FUNCTION IF EXISTS syncd.sync_letter_part(jsonb);
