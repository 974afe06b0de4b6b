-- Reads on a standby. The primary says how far a standby has to be and who may read (sync_read_point), the standby reads
-- (sync_read_there), and the primary says again who may read before the answer leaves. Nothing here writes on a standby.
-- Called by the role that serves: sync_read_point on the primary, sync_read_there on standbys, sync_members_now on both.

-- The spaces that the acting user is a member of, as one value to compare; of nobody, that of no space.
CREATE OR REPLACE FUNCTION syncd.sync_members_now() RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT sha256(convert_to(coalesce(string_agg(m.space_no::text, ',' ORDER BY m.space_no), ''), 'UTF8'))
            FROM syncd.sync_memberships m WHERE m.user_no = syncd.sync_user());
END $$;

-- A place in the WAL as a number of bytes.
CREATE OR REPLACE FUNCTION syncd.sync_wal_bytes(p_at pg_lsn) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (p_at - '0/0'::pg_lsn)::bigint;

-- The roles that a connection is bound by.
CREATE OR REPLACE FUNCTION syncd.sync_connected_as() RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN concat(session_user, ' as ', current_user);
END $$;

-- What a read of a user's asks of a standby, at this moment: `lsn`, up to where it must have replayed, so that all is there that was
-- acknowledged before; `start_us`, the history that it must be of; `role`, as whom it must be asked. p_call: {"user"?, "list"?, "asOf"?};
-- a list of memberships is taken over. The place in the WAL is read last, and what was acknowledged before is flushed up to there.
CREATE OR REPLACE FUNCTION syncd.sync_read_point(p_call jsonb, OUT lsn bigint, OUT start_us bigint, OUT now_us bigint, OUT role text, OUT members bytea)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_call ? 'user' THEN
        PERFORM syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'), p_call ? 'list');
        PERFORM syncd.sync_adopt_said(p_call);
    END IF;
    now_us := syncd.sync_micros(clock_timestamp());
    start_us := syncd.sync_micros(syncd.sync_start());
    role := syncd.sync_connected_as();
    members := syncd.sync_members_now();
    lsn := syncd.sync_wal_bytes(pg_current_wal_flush_lsn());
END $$;

-- Why this database may not answer instead of the primary, or null: `promoted`, it follows none; `another_role`; `behind`, it has not
-- replayed up to p_lsn yet; `another_history`, its newest start is another one, as where it followed a primary that is none any more.
CREATE OR REPLACE FUNCTION syncd.sync_not_there(p_lsn bigint, p_start bigint, p_role text, OUT why text, OUT replayed bigint)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    replayed := syncd.sync_wal_bytes(pg_last_wal_replay_lsn());
    IF NOT pg_is_in_recovery() THEN
        why := 'promoted';
    ELSIF syncd.sync_connected_as() <> p_role THEN
        why := 'another_role';
    ELSIF (replayed >= p_lsn) IS NOT TRUE THEN
        why := 'behind';
    ELSIF (SELECT syncd.sync_micros(max(t.started_at)) FROM syncd.sync_starts t) IS DISTINCT FROM p_start THEN
        why := 'another_history';
    END IF;
END $$;

-- A read of what p_call says (as sync_pull, sync_past and sync_digest take it, without a list) on a standby that is so far; where it is
-- not, `why`. How far it is is asked before the snapshots of the reading, and the members are of the snapshot that is read. What it
-- finds wrong with a cursor is for the primary to say: `trouble`. p_what: `nothing` for a look whether it could.
CREATE OR REPLACE FUNCTION syncd.sync_read_there(p_what text, p_lsn bigint, p_start bigint, p_role text, p_call jsonb, OUT why text, OUT replayed bigint,
    OUT members bytea, OUT page syncd.sync_page, OUT past syncd.sync_past_page, OUT digest syncd.sync_digest_page)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_user integer;
    r      record;
BEGIN
    SELECT n.why, n.replayed INTO why, replayed FROM syncd.sync_not_there(p_lsn, p_start, p_role) n;
    IF why IS NOT NULL OR p_what = 'nothing' THEN
        RETURN;
    END IF;
    v_user := syncd.sync_act_as(coalesce(p_call ->> 'context', p_call ->> 'user'));
    CASE p_what
        WHEN 'pull' THEN
            SELECT p AS page, syncd.sync_members_now() AS members INTO r
            FROM syncd.sync_pull_acting(v_user, p_call ->> 'app', p_call -> 'since', p_call -> 'how') p;
            page := r.page;
            why := CASE WHEN page.trouble IS NOT NULL THEN 'trouble' END;
        WHEN 'past' THEN
            SELECT p AS page, syncd.sync_members_now() AS members INTO r FROM syncd.sync_past_acting(p_call) p;
            past := r.page;
        WHEN 'digest' THEN
            IF syncd.sync_digest_trouble(v_user, p_call) IS NOT NULL THEN
                why := 'trouble';
                RETURN;
            ELSIF p_call ? 'bucket' THEN
                SELECT p AS page, syncd.sync_members_now() AS members INTO r FROM syncd.sync_digest_compare(v_user, p_call) p;
            ELSE
                SELECT p AS page, syncd.sync_members_now() AS members INTO r FROM syncd.sync_digest_acting(v_user, p_call) p;
            END IF;
            digest := r.page;
    END CASE;
    members := r.members;
END $$;
