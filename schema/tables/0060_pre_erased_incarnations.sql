-- The space of a record that was erased, by its number: another of the same id is another space. Null where it is not here.
ALTER TABLE syncd.sync_erasures ADD COLUMN space_no integer;
UPDATE syncd.sync_erasures e SET space_no = s.space_no FROM syncd.sync_spaces s
WHERE e.what = 'record' AND s.space_id = e.space_id AND s.created_at <= coalesce(e.done_at, e.asked_at);
DROP INDEX syncd.sync_erasures_record;
CREATE UNIQUE INDEX sync_erasures_record ON syncd.sync_erasures (record_id, table_name, app, space_id, coalesce(space_no, 0)) WHERE what = 'record';
