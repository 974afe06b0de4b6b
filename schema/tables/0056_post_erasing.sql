-- What a webhook gives up after an erasure is kept without what was erased meanwhile.
CREATE TRIGGER letter_kept BEFORE INSERT ON syncd.sync_webhook_dead FOR EACH ROW EXECUTE FUNCTION syncd.sync_letter_kept();
-- sync_letter_part, sync_erase_standing, sync_erase_places and sync_erase_taken stand in their places.
DROP FUNCTION IF EXISTS syncd.sync_erased_message(jsonb, syncd.sync_erasures);
DROP FUNCTION IF EXISTS syncd.sync_erase_written(bigint, bigint, integer, integer, bigint, bigint);
DROP FUNCTION IF EXISTS syncd.sync_erase_feeds(bigint);
DROP FUNCTION IF EXISTS syncd.sync_erase_keys(json, boolean, text[]);
