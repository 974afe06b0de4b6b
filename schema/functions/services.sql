-- Tokens of services: other parts of the application, which act as a user of their own or on behalf of one.
-- Called by the role that serves: sync_service_token, which is SECURITY DEFINER. The others are an operator's.

-- The user of a service that acts as itself. No token of a user has such an id (syncd/core/ids.py).
CREATE OR REPLACE FUNCTION syncd.sync_service_user(p_service text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN concat('_service:', p_service);

-- Whose a token is, by its SHA-256: the service, the user who acts, and until when (seconds since 1970; null: for ever). No row for one
-- that was never made, was revoked or has expired.
CREATE OR REPLACE FUNCTION syncd.sync_service_token(p_digest bytea, OUT service text, OUT user_id text, OUT expires double precision)
RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp AS $$
    SELECT t.service, n.name, extract(epoch FROM t.expires_at)::double precision
    FROM syncd.sync_service_tokens t JOIN syncd.sync_names n ON n.name_no = t.user_no
    WHERE t.digest = p_digest AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
$$;

-- Makes a token; its number. p_user: on whose behalf the service works, null for itself. p_spaces: of which the service's own user becomes a member,
-- with p_role. Raises SY010 (space_not_found).
CREATE OR REPLACE FUNCTION syncd.sync_service_make(p_service text, p_user text, p_digest bytea, p_spaces text[], p_role text, p_expires timestamptz)
RETURNS integer LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_user   text := coalesce(p_user, syncd.sync_service_user(p_service));
    v_number integer;
BEGIN
    PERFORM syncd.sync_names_put(ARRAY[v_user], NULL);
    IF EXISTS (SELECT FROM unnest(p_spaces) AS e (id) WHERE NOT EXISTS (
            SELECT FROM syncd.sync_spaces s WHERE s.space_id = e.id AND s.deleted_at IS NULL)) THEN
        RAISE EXCEPTION 'space_not_found' USING ERRCODE = 'SY010';
    END IF;
    INSERT INTO syncd.sync_memberships AS m (user_no, space_no, role)
    SELECT n.name_no, s.space_no, p_role FROM syncd.sync_spaces s CROSS JOIN syncd.sync_names n
    WHERE s.space_id = ANY (p_spaces) AND n.name = v_user ORDER BY s.space_no
    ON CONFLICT (user_no, space_no) DO UPDATE SET role = EXCLUDED.role WHERE m.role <> EXCLUDED.role;
    INSERT INTO syncd.sync_service_tokens AS t (digest, service, user_no, expires_at)
    SELECT p_digest, p_service, n.name_no, p_expires FROM syncd.sync_names n WHERE n.name = v_user
    RETURNING t.ordinal INTO v_number;
    RETURN v_number;
END $$;

-- Ends a token by its number; the name of its service, null where there is none that lives. With the last token of a service that acts as itself its
-- memberships go, so that row security refuses it from the next transaction on.
CREATE OR REPLACE FUNCTION syncd.sync_service_revoke(p_ordinal integer) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_service text;
    v_user    integer;
BEGIN
    UPDATE syncd.sync_service_tokens t SET revoked_at = clock_timestamp() WHERE t.ordinal = p_ordinal AND t.revoked_at IS NULL
    RETURNING t.service, t.user_no INTO v_service, v_user;
    DELETE FROM syncd.sync_memberships m USING syncd.sync_names n
    WHERE m.user_no = v_user AND n.name_no = v_user AND n.name = syncd.sync_service_user(v_service) AND NOT EXISTS (
        SELECT FROM syncd.sync_service_tokens t WHERE t.user_no = v_user AND t.revoked_at IS NULL
        AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp()));
    RETURN v_service;
END $$;
