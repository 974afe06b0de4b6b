-- What a device is told of its user's spaces: their names, and the user's role in each. All of them at first, by their numbers, and
-- then those that have changed, in order. A user's changes are counted under a lock, so that a device that was told up to one misses none before it.
-- Called by the role that serves: sync_roles_untold and sync_roles; sync_note_roles and sync_note_name by functions alone.

-- Counts a change of each of these memberships, of one length. A user's lock is taken in one order everywhere. A first
-- row begins at a number that is greater than any before, as a row of the user may have gone.
CREATE OR REPLACE FUNCTION syncd.sync_note_roles(p_users integer[], p_spaces integer[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    WITH changed AS (
        SELECT c.user_no, c.space_no, row_number() OVER (PARTITION BY c.user_no ORDER BY c.space_no) AS nth
        FROM unnest(p_users, p_spaces) AS c (user_no, space_no)
    ), heads AS (
        INSERT INTO syncd.sync_role_heads AS h (user_no, head, boot_us)
        SELECT c.user_no, syncd.sync_micros(clock_timestamp()) + count(*), (SELECT coalesce(syncd.sync_micros(max(t.started_at)), 0) FROM syncd.sync_starts t)
        FROM changed c GROUP BY c.user_no ORDER BY c.user_no
        ON CONFLICT (user_no) DO UPDATE SET head = h.head + (SELECT count(*) FROM changed c WHERE c.user_no = h.user_no), boot_us = EXCLUDED.boot_us
        RETURNING h.user_no, h.head
    )
    INSERT INTO syncd.sync_role_changes AS r (user_no, space_no, place)
    SELECT c.user_no, c.space_no, h.head + 1 - c.nth FROM changed c JOIN heads h ON h.user_no = c.user_no
    ON CONFLICT (user_no, space_no) DO UPDATE SET place = EXCLUDED.place
$$;

-- Takes back what is counted of memberships that have ended, with the same lock before. The head of a user who is in no space any more
-- goes, because what refers to a user keeps the user's name.
CREATE OR REPLACE FUNCTION syncd.sync_forget_roles(p_users integer[], p_spaces integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM syncd.sync_role_heads h WHERE h.user_no = ANY (p_users) ORDER BY h.user_no FOR NO KEY UPDATE;
    DELETE FROM syncd.sync_role_changes r USING unnest(p_users, p_spaces) AS c (user_no, space_no)
    WHERE r.user_no = c.user_no AND r.space_no = c.space_no;
    DELETE FROM syncd.sync_role_heads h
    WHERE h.user_no = ANY (p_users) AND NOT EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.user_no = h.user_no);
END $$;

-- A space has another name: its members are told, those who listen at once.
CREATE OR REPLACE FUNCTION syncd.sync_note_name(p_space integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users integer[] := ARRAY(SELECT m.user_no FROM syncd.sync_memberships m WHERE m.space_no = p_space);
BEGIN
    PERFORM syncd.sync_note_roles(v_users, array_fill(p_space, ARRAY[cardinality(v_users)]));
    INSERT INTO syncd.sync_membership_events (user_no, space_no) SELECT u.no, p_space FROM unnest(v_users) AS u (no);
END $$;

-- Whether there is something to tell a device that was told up to p_told: {"head", "boot", "after"?}, where `after` is the space up to
-- which it was told all of them; {}: nothing yet. One that was told under a start before the user's last change may have been told of another
-- history. One look, whatever the number of spaces.
CREATE OR REPLACE FUNCTION syncd.sync_roles_untold(p_user integer, p_told jsonb) RETURNS boolean
LANGUAGE sql STABLE
RETURN NOT p_told ? 'head' OR p_told ? 'after' OR coalesce(
    (SELECT h.head <> (p_told ->> 'head')::bigint OR h.boot_us > (p_told ->> 'boot')::bigint FROM syncd.sync_role_heads h WHERE h.user_no = p_user),
    (p_told ->> 'head')::bigint <> 0);

-- The next p_most of the acting user's spaces that a device is told of, p_told as above and known to hold: those after a space's number, or
-- those that changed since. upto: the space or the change that the last one is; null: there is no more.
CREATE OR REPLACE FUNCTION syncd.sync_roles_next(p_told jsonb, p_most integer, OUT spaces text, OUT upto bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH next AS (
        (SELECT m.space_no, m.space_no::bigint AS at FROM syncd.sync_memberships m
         WHERE p_told ? 'after' AND m.user_no = syncd.sync_user() AND m.space_no > (p_told ->> 'after')::bigint
         ORDER BY m.space_no LIMIT p_most)
        UNION ALL
        (SELECT r.space_no::integer, r.place FROM syncd.sync_role_changes r
         WHERE NOT p_told ? 'after' AND r.user_no = syncd.sync_user() AND r.place > (p_told ->> 'head')::bigint
         ORDER BY r.place LIMIT p_most)
    )
    SELECT coalesce(string_agg(concat('{"id":', s.quoted, ',"name":', to_json(s.name), ',"role":"', m.role, '"}'), ',' ORDER BY o.at), ''),
           (SELECT CASE WHEN count(*) = p_most THEN max(x.at) END FROM next x)
    FROM next o
    JOIN syncd.sync_memberships m ON m.user_no = syncd.sync_user() AND m.space_no = o.space_no
    JOIN syncd.sync_spaces s ON s.space_no = o.space_no
$$;

-- What a device is told of the acting user's spaces: p_call: {"user", "told", "most", "list"?, "asOf"?}, told as above. `spaces`: JSON text, comma-separated; the rest is up to
-- where it was told then; more: there are others. The head is read first: what changes meanwhile is told again, and nothing is left out.
CREATE OR REPLACE FUNCTION syncd.sync_roles(p_call jsonb, OUT spaces text, OUT head bigint, OUT boot_us bigint, OUT after bigint, OUT more boolean)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user integer := syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ? 'list');
    v_told jsonb := p_call -> 'told';
    v_last bigint;
    v_upto bigint;
BEGIN
    PERFORM syncd.sync_adopt_said(p_call);
    boot_us := syncd.sync_micros(syncd.sync_start());
    SELECT h.head, h.boot_us INTO head, v_last FROM syncd.sync_role_heads h WHERE h.user_no = v_user;
    head := coalesce(head, 0);
    IF ((v_told ->> 'head')::bigint <= head AND (v_told ->> 'boot')::bigint >= coalesce(v_last, 0)) IS NOT TRUE THEN
        v_told := jsonb_build_object('head', head, 'after', 0);
    END IF;
    SELECT n.spaces, n.upto INTO spaces, v_upto FROM syncd.sync_roles_next(v_told, (p_call ->> 'most')::integer) n;
    more := v_upto IS NOT NULL;
    IF v_told ? 'after' THEN  -- what changed since it was begun comes after all of them
        after := v_upto;
        more := more OR head > (v_told ->> 'head')::bigint;
        head := (v_told ->> 'head')::bigint;
    ELSE
        head := coalesce(v_upto, head);
    END IF;
END $$;
