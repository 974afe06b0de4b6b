-- Helpers without tables, on which every other area may build.
-- Called by the functions of all areas, as whoever calls those.

CREATE OR REPLACE FUNCTION syncd.sync_micros(p_at timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (extract(epoch FROM p_at) * 1000000)::bigint;

-- An instant as the wire writes it.
CREATE OR REPLACE FUNCTION syncd.sync_instant(p_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN to_char(p_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Whether registers are those of a deleted record.
CREATE OR REPLACE FUNCTION syncd.sync_is_deleted(p_registers jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(p_registers -> 'deletedAt' -> 'value', 'null') <> 'null';
