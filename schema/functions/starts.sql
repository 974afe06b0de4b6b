-- Which history this is. What a cursor says of a log holds for one history only, and a database that was restored, cloned
-- or promoted goes on with another one. Each such beginning is a start, in sync_starts.
-- Called by the role that serves, before a cursor is read or made.

-- The current start. Where the newest that is known is not of this very database, a new one is registered.
-- rtrim leaves the database's folder of the file's path.
CREATE OR REPLACE FUNCTION syncd.sync_start() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_start timestamptz;
BEGIN
    SELECT CASE WHEN s.postmaster = pg_postmaster_start_time() AND s.made_by = s.xmin
                     AND s.folder = rtrim(pg_relation_filepath(s.tableoid), '0123456789')
                THEN s.started_at END
    INTO v_start FROM syncd.sync_starts s ORDER BY s.started_at DESC LIMIT 1;
    RETURN coalesce(v_start, syncd.sync_start_anew());
END $$;

-- Registers a start, once for all who find that it is missing. It is later than every other, whatever the clock says.
CREATE OR REPLACE FUNCTION syncd.sync_start_anew() RETURNS timestamptz
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_start  timestamptz;
    v_folder text := rtrim(pg_relation_filepath('syncd.sync_starts'), '0123456789');
BEGIN
    LOCK TABLE syncd.sync_starts IN SHARE ROW EXCLUSIVE MODE;
    SELECT CASE WHEN s.postmaster = pg_postmaster_start_time() AND s.made_by = s.xmin AND s.folder = v_folder THEN s.started_at END
    INTO v_start FROM syncd.sync_starts s ORDER BY s.started_at DESC LIMIT 1;
    IF v_start IS NULL THEN
        INSERT INTO syncd.sync_starts AS s (started_at, postmaster, folder, made_by)
        SELECT greatest(clock_timestamp(), max(o.started_at) + interval '1 microsecond'), pg_postmaster_start_time(), v_folder, '0'
        FROM syncd.sync_starts o
        RETURNING s.started_at INTO v_start;
        -- In a subtransaction its xmin is not the transaction's number.
        UPDATE syncd.sync_starts s SET made_by = s.xmin WHERE s.started_at = v_start;
    END IF;
    RETURN v_start;
END $$;

-- Whether a cursor that was made under another start than the current one is of a history that this database does not have:
-- that start is none of its own, or a space has a number that the cursor's history gave to another one. Those from before
-- the first start that was registered are judged by their places alone.
CREATE OR REPLACE FUNCTION syncd.sync_is_strange(p_made timestamptz, p_spaces integer[]) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT p_made >= (SELECT min(s.started_at) FROM syncd.sync_starts s)
           AND NOT EXISTS (SELECT FROM syncd.sync_starts s WHERE s.started_at = p_made)
        OR EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_no = ANY (p_spaces)
                   AND s.created_at >= (SELECT min(n.started_at) FROM syncd.sync_starts n WHERE n.started_at > p_made))
$$;
