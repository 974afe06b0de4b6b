-- Pages of a first sync that many devices ask for: the text of one that a worker has already is not made again.
-- Called by functions alone.

-- What a feed's records stand at: who changes one of them writes the feed's row in the same transaction, and a restored database
-- has another start. Null where the acting user is no member.
CREATE OR REPLACE FUNCTION syncd.sync_feed_version(p_space integer, p_app integer) RETURNS text
LANGUAGE sql STABLE
RETURN (SELECT concat_ws(' ', h.xmin, h.head, (SELECT max(t.started_at) FROM syncd.sync_starts t))
        FROM syncd.sync_feeds h WHERE h.space_no = p_space AND h.app_no = p_app);

-- A page of a sweep that begins at p_seq: where it ends, how long its text is, and the text. p_kept: the pages that the asker has, by key:
-- [version, cut, size, number]; of one that is still right the text is its number between two of chr(1). Any other that is worth
-- keeping says in front of its text, between two of chr(2), what it is to be kept as: [key, version, cut, size]. JSON
-- text cannot contain either.
CREATE OR REPLACE FUNCTION syncd.sync_shared_page(p_kept jsonb, p_phase text, p_space integer, p_app integer, p_seq bigint, p_limit integer, p_bytes bigint,
    p_tables integer[], p_firsts integer[], p_quoted text, OUT cut bigint, OUT size bigint, OUT piece text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_key     text := json_build_array(p_phase, p_space, p_seq, p_limit, p_bytes, p_quoted, p_tables, p_firsts)::text;
    v_version text := syncd.sync_feed_version(p_space, p_app);
    v_kept    jsonb := p_kept -> v_key;
BEGIN
    IF v_kept ->> 0 = v_version THEN
        cut := (v_kept ->> 1)::bigint; size := (v_kept ->> 2)::bigint;
        piece := concat(chr(1), v_kept ->> 3, chr(1));
        RETURN;
    END IF;
    cut := syncd.sync_sweep_cut(p_space, p_app, p_seq, p_limit * CASE p_phase WHEN 'first' THEN 10 ELSE 1 END, p_bytes);
    piece := syncd.sync_sweep_text(p_space, p_app, cut, p_seq, p_tables, p_firsts, p_phase = 'first', false, p_quoted);
    size := octet_length(piece);
    IF size >= 16384 THEN
        piece := concat(chr(2), json_build_array(v_key, v_version, cut, size), chr(2), piece);
    END IF;
END $$;
