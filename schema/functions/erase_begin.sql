-- Beginning the erasure of a user: who it is, whether it may be, and what goes at once. From then on nobody is of that name (functions/erase_names.sql),
-- and what is left is done a part at a time (functions/erase_user.sql).
-- Called by an operator, whom row security does not bind.

-- Refuses a user who alone owns spaces that have other members, and says which; not with p_always. Raises SY010: last_owner.
CREATE OR REPLACE FUNCTION syncd.sync_erase_refuse(p_user integer, p_always boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_spaces text[] := syncd.sync_erase_alone(p_user);
BEGIN
    IF v_spaces <> '{}' AND NOT p_always THEN
        RAISE EXCEPTION 'last_owner' USING ERRCODE = 'SY010', DETAIL = array_to_string(v_spaces, ', ');
    END IF;
END $$;

-- Spaces in which nobody else is are erased with their user: nobody is told of their names again. Where memberships come from outside, a member
-- is known here from its first sync on, so of those spaces the personal one alone is nobody else's. The memberships are locked.
CREATE OR REPLACE FUNCTION syncd.sync_erase_spaces(p_user integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_own  text := (SELECT concat('_personal:', n.name) FROM syncd.sync_names n WHERE n.name_no = p_user);
    v_salt bytea := (SELECT e.salt FROM syncd.sync_erasures e WHERE e.user_no = p_user);
    v_of   integer[] := ARRAY(SELECT m.space_no FROM syncd.sync_memberships m WHERE m.user_no = p_user
                              UNION SELECT s.space_no FROM syncd.sync_spaces s WHERE p_user = ANY (s.owners));
    v_n    bigint;
BEGIN
    UPDATE syncd.sync_spaces s
    SET space_id = f.id, quoted = to_json(f.id)::text, name = 'erased', former_id = NULL, owners = '{}', erased_at = clock_timestamp(),
        erased_as = sha256(v_salt || convert_to(s.space_id, 'UTF8')), deleted_at = coalesce(s.deleted_at, clock_timestamp())
    FROM (SELECT o.no, gen_random_uuid()::text AS id FROM unnest(v_of) AS o (no)) f
    WHERE f.no = s.space_no AND s.erased_at IS NULL
      AND (s.owners = ARRAY[p_user]::bigint[] OR EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.space_no = s.space_no AND m.user_no = p_user))
      AND (s.space_id = v_own OR NOT EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.space_no = s.space_no AND m.source <> 'table'))
      AND NOT EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.space_no = s.space_no AND m.user_no <> p_user);
    GET DIAGNOSTICS v_n = ROW_COUNT;
    UPDATE syncd.sync_erasures e SET space_id = s.space_id FROM syncd.sync_spaces s
    WHERE e.what = 'record' AND s.space_no = e.space_no AND s.erased_at IS NOT NULL AND e.space_id <> s.space_id;
    DELETE FROM syncd.sync_invitations i USING syncd.sync_spaces s WHERE s.space_no = i.space_no AND s.erased_at IS NOT NULL AND s.space_no = ANY (v_of);
    DELETE FROM syncd.sync_links l USING syncd.sync_spaces s WHERE s.space_no = l.space_no AND s.erased_at IS NOT NULL AND s.space_no = ANY (v_of);
    DELETE FROM syncd.sync_removals r USING syncd.sync_spaces s WHERE s.space_no = r.space_no AND s.erased_at IS NOT NULL AND s.space_no = ANY (v_of);
    UPDATE syncd.sync_spaces s SET owners = array_remove(s.owners, p_user::bigint) WHERE s.space_no = ANY (v_of) AND p_user = ANY (s.owners);
    RETURN v_n;
END $$;

-- A webhook's message without a user. p_author: who wrote its changes instead; p_values: these may stay.
CREATE OR REPLACE FUNCTION syncd.sync_unsigned_message(p_body jsonb, p_user text, p_author text, p_values boolean) RETURNS jsonb
LANGUAGE sql IMMUTABLE
RETURN jsonb_set(p_body, '{data,changes}', coalesce((
    SELECT jsonb_agg(CASE WHEN c ->> 'user' IS DISTINCT FROM p_user THEN c
                          ELSE c || jsonb_build_object('user', p_author)
                               || CASE WHEN p_values THEN '{}'::jsonb ELSE '{"values": {}, "erased": true}'::jsonb END END ORDER BY n)
    FROM jsonb_array_elements(p_body #> '{data,changes}') WITH ORDINALITY AS x (c, n)), '[]'));

-- One after the other begin who erase users of the same name.
CREATE OR REPLACE FUNCTION syncd.sync_erase_alone_of(p_user text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtext('syncd.sync_erase_user'), hashtext(p_user))
$$;

-- Begins an erasure by its number, or goes on with it; false where it is done, as its user is gone by then, and who has the id is somebody else.
-- From here on nobody is of that name: who comes with it again is somebody new, who is a member of nothing. Raises SY010: last_owner, not with p_always.
CREATE OR REPLACE FUNCTION syncd.sync_erase_begin(p_ordinal bigint, p_anonymise boolean, p_always boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e        syncd.sync_erasures;
    v_name   text := (SELECT n.name FROM syncd.sync_erasures x JOIN syncd.sync_names n ON n.name_no = x.user_no WHERE x.ordinal = p_ordinal);
    v_author text := concat('_erased:', gen_random_uuid());
    v_user   integer;
    v_shared boolean;
    v_heads  syncd.sync_erasure_feeds[];
BEGIN
    PERFORM syncd.sync_erase_alone_of(v_name);
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal FOR UPDATE;
    SELECT n.name, n.name_no INTO v_name, v_user FROM syncd.sync_names n WHERE n.name_no = e.user_no;
    IF v_user IS NULL OR starts_with(v_name, '_erased:') OR e.digest <> sha256(e.salt || convert_to(v_name, 'UTF8')) THEN
        RETURN coalesce(starts_with(v_name, '_erased:'), false);
    END IF;
    UPDATE syncd.sync_erasures x SET anonymise = p_anonymise, clients = syncd.sync_erase_devices(v_user) WHERE x.ordinal = p_ordinal;
    v_heads := ARRAY(SELECT (h.space_no, h.app_no, p_ordinal, h.head)::syncd.sync_erasure_feeds FROM syncd.sync_feeds h);
    v_shared := syncd.sync_name_shared(v_user);
    -- Nobody joins, leaves or comes for the first time from here on, so what is as large as the log was read before.
    LOCK TABLE syncd.sync_memberships IN SHARE ROW EXCLUSIVE MODE;
    PERFORM syncd.sync_erase_refuse(v_user, p_always);  -- somebody may have come, or gone, meanwhile
    UPDATE syncd.sync_erasures x SET begun_at = clock_timestamp() WHERE x.ordinal = p_ordinal;
    PERFORM syncd.sync_erase_count(p_ordinal, 'spaces', syncd.sync_erase_spaces(v_user));
    PERFORM syncd.sync_erase_own(v_user), syncd.sync_erase_held(p_ordinal);
    IF v_shared OR syncd.sync_name_shared_since(v_user, v_heads) THEN
        PERFORM syncd.sync_erase_apart(p_ordinal, v_user, v_author);
    ELSE
        UPDATE syncd.sync_names n SET name = v_author, quoted = to_json(v_author)::text, made_by = NULL WHERE n.name_no = v_user;
    END IF;
    DELETE FROM syncd.sync_report_roles r WHERE r.user_id = v_name;
    RETURN true;
END $$;

-- Takes the user of an erasure that was begun out of the messages that webhooks gave up before. Its name is known there by its digest alone by now.
CREATE OR REPLACE FUNCTION syncd.sync_erase_letters(p_ordinal bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    e        syncd.sync_erasures;
    v_author text;
    v_name   text;
BEGIN
    PERFORM syncd.sync_erase_begun(p_ordinal);
    SELECT x.* INTO STRICT e FROM syncd.sync_erasures x WHERE x.ordinal = p_ordinal;
    SELECT n.name INTO v_author FROM syncd.sync_names n WHERE n.name_no = e.user_no;
    SELECT u.name INTO v_name FROM (
        SELECT DISTINCT c ->> 'user' AS name FROM syncd.sync_webhook_dead d
        CROSS JOIN LATERAL (SELECT convert_from(d.body, 'UTF8')::jsonb #> '{data,changes}' AS told) b
        CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(b.told) WHEN 'array' THEN b.told END) c
        WHERE d.died_at <= e.begun_at) u
    WHERE v_author IS NOT NULL AND e.digest = sha256(e.salt || convert_to(u.name, 'UTF8'));
    UPDATE syncd.sync_webhook_dead d SET body = convert_to(m.body::text, 'UTF8')
    FROM (SELECT o.dead_id, convert_from(o.body, 'UTF8')::jsonb AS was,
                 syncd.sync_unsigned_message(convert_from(o.body, 'UTF8')::jsonb, v_name, v_author, e.anonymise) AS body
          FROM syncd.sync_webhook_dead o WHERE v_name IS NOT NULL AND o.died_at <= e.begun_at) m
    WHERE d.dead_id = m.dead_id AND m.body <> m.was;
    UPDATE syncd.sync_webhooks w SET said = NULL WHERE w.said IS NOT NULL;
END $$;

-- Begins the erasure of a user, or goes on with one that was begun: its number, which is that of a former user of the id where that one's is not
-- done. Raises SY010: user_not_found, last_owner.
CREATE OR REPLACE FUNCTION syncd.sync_erase_user(p_user text, p_anonymise boolean) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_salt    bytea := decode(replace(gen_random_uuid()::text, '-', ''), 'hex');
    v_user    integer;
    v_ordinal bigint;
BEGIN
    PERFORM syncd.sync_erase_alone_of(p_user);
    SELECT e.ordinal INTO v_ordinal FROM syncd.sync_erasures e
    WHERE e.what = 'user' AND e.digest = sha256(e.salt || convert_to(p_user, 'UTF8'))
      AND CASE WHEN e.done_at IS NULL THEN EXISTS (SELECT FROM syncd.sync_names n WHERE n.name_no = e.user_no AND starts_with(n.name, '_erased:'))
               ELSE syncd.sync_user_known(p_user) IS NULL END
    ORDER BY e.done_at IS NOT NULL, e.ordinal DESC LIMIT 1;
    IF FOUND THEN
        RETURN v_ordinal;
    END IF;
    v_user := syncd.sync_user_known(p_user);
    IF v_user IS NULL THEN
        RAISE EXCEPTION 'user_not_found' USING ERRCODE = 'SY010';
    END IF;
    PERFORM syncd.sync_erase_refuse(v_user, false);
    INSERT INTO syncd.sync_erasures AS e (what, user_no, salt, digest) VALUES ('user', v_user, v_salt, sha256(v_salt || convert_to(p_user, 'UTF8')))
    ON CONFLICT (user_no) WHERE user_no IS NOT NULL DO UPDATE SET what = e.what  -- the user had asked
    RETURNING e.ordinal INTO v_ordinal;
    PERFORM syncd.sync_erase_begin(v_ordinal, p_anonymise);
    RETURN v_ordinal;
END $$;

-- Erases again, in a database that was restored from before it, what p_list (as the call erase_list has it) names: takes the list over, and
-- returns the numbers of those that have work left. What was only asked for is asked for here too. What the database knows to be done is not done again: since then a user may be back.
CREATE OR REPLACE FUNCTION syncd.sync_erase_again(p_list jsonb) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_known  syncd.sync_erasures;
    v_user   integer;
    v_number bigint;
    e        record;
BEGIN
    FOR e IN SELECT x.*, decode(x.salt, 'hex') AS salted FROM jsonb_to_recordset(p_list) AS x (what text, asked double precision, done double precision,
                 space_id text, app text, table_name text, record_id text, salt text, digest text, anonymise boolean, counts jsonb) LOOP
        SELECT k.* INTO v_known FROM syncd.sync_erasures k
        WHERE CASE e.what WHEN 'user' THEN k.salt = e.salted
                          ELSE (k.record_id, k.table_name, k.app) = (e.record_id, e.table_name, e.app)
                               AND abs(extract(epoch FROM k.asked_at) - e.asked::numeric) < 0.001  -- in another space of the id it is another one
                               AND (k.space_id = e.space_id OR EXISTS (SELECT FROM syncd.sync_spaces s WHERE s.space_no = k.space_no AND s.erased_at IS NOT NULL)) END;
        v_number := v_known.ordinal;
        IF v_number IS NULL THEN
            v_user := (SELECT n.name_no FROM syncd.sync_names n
                       WHERE sha256(e.salted || convert_to(n.name, 'UTF8')) = decode(e.digest, 'hex') AND syncd.sync_user_known(n.name) IS NOT NULL);
            IF v_user IS NOT NULL THEN
                INSERT INTO syncd.sync_erasures AS k (what, asked_at, user_no, salt, digest, anonymise)
                VALUES ('user', to_timestamp(e.asked), v_user, e.salted, decode(e.digest, 'hex'), e.anonymise)
                ON CONFLICT (user_no) WHERE user_no IS NOT NULL DO UPDATE SET salt = EXCLUDED.salt, digest = EXCLUDED.digest
                RETURNING k.ordinal INTO v_number;
                CONTINUE WHEN e.done IS NULL OR NOT syncd.sync_erase_begin(v_number, e.anonymise, true);  -- or it was asked for, and is still to be done
            ELSE
                INSERT INTO syncd.sync_erasures AS k (what, asked_at, done_at, space_id, space_no, app, table_name, record_id, salt, digest, anonymise, counts)
                VALUES (e.what, to_timestamp(e.asked), CASE WHEN e.what = 'user' THEN coalesce(to_timestamp(e.done), clock_timestamp()) END, e.space_id,
                        (SELECT s.space_no FROM syncd.sync_spaces s WHERE s.space_id = e.space_id AND s.created_at <= to_timestamp(e.asked)), e.app, e.table_name, e.record_id, e.salted, decode(e.digest, 'hex'), e.anonymise, CASE e.what WHEN 'user' THEN e.counts ELSE '{}' END)
                ON CONFLICT (record_id, table_name, app, space_id, coalesce(space_no, 0)) WHERE what = 'record' DO UPDATE SET what = k.what
                RETURNING k.ordinal INTO v_number;
                CONTINUE WHEN e.what = 'user';
            END IF;
        ELSIF v_known.done_at IS NOT NULL OR e.done IS NULL THEN
            CONTINUE;
        ELSIF e.what = 'user' AND NOT syncd.sync_erase_begin(v_number, e.anonymise, true) THEN
            CONTINUE;
        END IF;
        RETURN NEXT v_number;
    END LOOP;
END $$;
