-- Which changes of a refused push may be of records whose tombstones were forgotten. Run when a push raised SY004.
SELECT syncd.sync_unremembered_in($1::jsonb, $2::json[])
