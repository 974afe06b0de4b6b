-- The acting user. The context is one number, set for one transaction by sync_act_as; the policies read the memberships
-- themselves, so no list of spaces ever travels in a setting. The number is in a parameter that the owner may set and the role
-- that serves may not. Where the database has a key (sync_context_key), who wants to act shows a context that was signed with it.
-- Called by the role that serves, at the start of a connection (sync_session) and by policies (sync_user); functions/acting.sql says
-- who acts. Those that are SECURITY DEFINER name a connection, and tell how far a proof is asked for.
-- Here and in every area, a function that runs as somebody else has a search_path of its own, and so has each that Python
-- calls: by the caller's, another `text`, `to_json` or `=` may be found, and would run as the owner.

-- The parameter that says who acts: one of PostgreSQL's that has no effect here and takes letters, digits, `_` and `,`. Superusers
-- set it, and those to whom they granted it: the owner, whose functions below do.
CREATE OR REPLACE FUNCTION syncd.sync_acting_in() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 'backtrace_functions';

-- The acting user, or null: then no policy lets a row through. The parameter has the user's number, while one acts, and after a comma
-- what is known of the session: its name, how many of its contexts were used before this transaction, and how many now.
-- `12,9f…,41,44`; while nobody acts `,9f…,44`, or nothing.
CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(pg_catalog.split_part(pg_catalog.current_setting('backtrace_functions'), ',', 1), '')::integer;

-- Where nobody granted that parameter, one that everybody may set. `syncd migrate` comes back here when that changes.
DO $$
BEGIN
    IF NOT pg_catalog.has_parameter_privilege(current_user, 'backtrace_functions', 'SET') THEN
        EXECUTE $f$CREATE OR REPLACE FUNCTION syncd.sync_acting_in() RETURNS text
                   LANGUAGE sql STABLE PARALLEL SAFE RETURN 'syncd.user_no'$f$;
        EXECUTE $f$CREATE OR REPLACE FUNCTION syncd.sync_user() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
                   RETURN nullif(pg_catalog.split_part(pg_catalog.current_setting('syncd.user_no', true), ',', 1), '')::integer$f$;
    END IF;
END $$;

-- The acting users of a group of pushes (functions/push_groups.sql), as lists of one length: the users (5), their devices (6) and the spaces that they write to (7). No two are of
-- one device, so that a row's device says who its author is. The lists stand in the parameter of sync_user, which is 0 then, nobody.
CREATE OR REPLACE FUNCTION syncd.sync_group(p_part integer) RETURNS integer[]
LANGUAGE sql STABLE PARALLEL SAFE
RETURN string_to_array(nullif(split_part(current_setting(syncd.sync_acting_in(), true), ',', p_part), ''), '_')::integer[];

-- The start of a connection that signs: a name of its own, for which contexts are, and the time, by which they expire.
CREATE OR REPLACE FUNCTION syncd.sync_session(OUT session text, OUT now double precision)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    session := replace(gen_random_uuid()::text, '-', '');
    now := extract(epoch FROM clock_timestamp());
    PERFORM set_config(syncd.sync_acting_in(), concat(',', session, ',0'), false);
END $$;

-- How far the database believes who acts: `signed`, it asks for a proof; `unsigned`, whoever calls says so; `open`, anybody may set the
-- parameter, and no proof is of use.
CREATE OR REPLACE FUNCTION syncd.sync_context_kind() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN CASE WHEN NOT has_parameter_privilege(current_user, syncd.sync_acting_in(), 'SET') OR syncd.sync_acting_in() LIKE '%.%' THEN 'open'
                WHEN EXISTS (SELECT FROM syncd.sync_context_key) THEN 'signed' ELSE 'unsigned' END;
END $$;

-- Checks a signed context, and returns what the parameter says after the user's number. Raises SY030 for one that was not signed with the
-- key, is for another purpose (`u`: a user by name, `n`: by number) or session, has expired, or was used before this
-- transaction. A context is a byte 1 and then, in places of fixed width, so that no two read the same: the proof (64 hexadecimal
-- digits), the purpose (1), the session (32), the second in which it expires (10), which of the session's it is (12), and who acts, to
-- the end. The proof is HMAC-SHA256 of what follows it; p_pads: the key as sync_context_key has it.
CREATE OR REPLACE FUNCTION syncd.sync_proven(p_purpose text, p_context text, p_pads bytea) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now     text;
    v_said    text;
    v_session text;
    v_before  text;
    v_count   bigint;
BEGIN
    v_now := current_setting(syncd.sync_acting_in(), true);
    v_said := substr(p_context, 66);
    v_session := split_part(v_now, ',', 2);
    v_before := split_part(v_now, ',', 3);
    IF encode(sha256(substr(p_pads, 79) || sha256(substr(p_pads, 1, 78) || convert_to(v_said, 'UTF8'))), 'hex')
            IS DISTINCT FROM substr(p_context, 2, 64)
        OR v_session = '' OR left(v_said, 33) IS DISTINCT FROM p_purpose || v_session
        OR to_timestamp(substr(v_said, 34, 10)::double precision) < statement_timestamp()
        OR substr(v_said, 44, 12)::bigint <= v_before::bigint THEN
        RAISE EXCEPTION 'context' USING ERRCODE = 'SY030';
    END IF;
    v_count := greatest(substr(v_said, 44, 12)::bigint, nullif(split_part(v_now, ',', 4), '')::bigint);
    -- Stays after this transaction, while the user, set next, does not. (An assignment costs a third of a PERFORM.)
    v_now := set_config(syncd.sync_acting_in(), concat(',', v_session, ',', v_count), false);
    RETURN concat(',', v_session, ',', v_before, ',', v_count);
END $$;

-- The same for who shows no context: only who acts as this user already, an operator, and the owner's own functions (`,owner`) go on.
CREATE OR REPLACE FUNCTION syncd.sync_unproven(p_user integer) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_now text := current_setting(syncd.sync_acting_in(), true);
BEGIN
    IF p_user = syncd.sync_user() OR split_part(v_now, ',', 2) = 'owner' THEN
        RETURN ltrim(coalesce(v_now, ''), '0123456789');
    ELSIF NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        RAISE EXCEPTION 'context' USING ERRCODE = 'SY030';
    END IF;
    RETURN '';
END $$;
