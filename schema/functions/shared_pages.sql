-- Pages of a first sync that many devices ask for: the text of one that a worker has already is not made again.
-- Called by functions alone.

-- What a feed's records stand at: who changes one of them writes the feed's row in the same transaction, and a restored database
-- has another start. Null where the acting user is no member.
CREATE OR REPLACE FUNCTION syncd.sync_feed_version(p_space integer, p_app integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT concat_ws(' ', h.xmin, h.head, (SELECT max(t.started_at) FROM syncd.sync_starts t))
        FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app);

-- A page of a sweep that begins at p_seq: where it ends, how long its text is, and the text. p_how: as for a pull; "kept" are the pages that
-- the asker has, by key: [version, cut, size, number]. Of one that is still right the text is its number between two of chr(1). Any other
-- that is worth keeping says in front of its text, between two of chr(2), what it is to be kept as: [key, version, cut, size].
-- JSON text cannot contain either. p_left, p_bytes: what the page has room for still. Where that is not all, what is small is read
-- for its asker alone, and what is not begins the next page, so that it is cut alike for all: then there is no cut.
CREATE OR REPLACE FUNCTION syncd.sync_shared_page(p_how jsonb, p_phase text, p_space integer, p_app integer, p_seq bigint, p_left integer, p_bytes bigint,
    p_tables integer[], p_firsts integer[], p_quoted text, OUT cut bigint, OUT size bigint, OUT piece text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_alone   boolean := p_left < (p_how ->> 'limit')::integer * CASE WHEN p_how ? 'tables' THEN 10 ELSE 1 END;
    v_key     text;
    v_version text;
    v_kept    jsonb;
BEGIN
    IF v_alone AND p_seq > p_left THEN
        RETURN;
    ELSIF NOT v_alone THEN
        v_key := json_build_array(p_phase, p_space, p_seq, p_left, p_bytes, p_quoted, p_tables, p_firsts)::text;
        v_version := syncd.sync_feed_version(p_space, p_app);
        v_kept := p_how -> 'kept' -> v_key;
        IF v_kept ->> 0 = v_version THEN
            cut := (v_kept ->> 1)::bigint; size := (v_kept ->> 2)::bigint;
            piece := concat(chr(1), v_kept ->> 3, chr(1));
            RETURN;
        END IF;
    END IF;
    cut := syncd.sync_sweep_cut(p_space, p_app, p_seq, p_left * CASE p_phase WHEN 'first' THEN 10 ELSE 1 END, p_bytes);
    piece := syncd.sync_sweep_text(p_space, p_app, cut, p_seq, p_tables, p_firsts, p_phase = 'first', false, p_quoted);
    size := octet_length(piece);
    IF NOT v_alone AND size >= 16384 AND getdatabaseencoding() = 'UTF8' THEN
        piece := concat(chr(2), json_build_array(v_key, v_version, cut, size), chr(2), piece);
    END IF;
END $$;
