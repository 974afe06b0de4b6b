-- Tokens of services.

-- name: service_token
-- Whose a token is, by its SHA-256; no row where it is nobody's.
-- returns: store.service_tokens.ServiceGrant
SELECT service, user_id, expires FROM syncd.sync_service_token($1::bytea);

-- name: service_make
-- Makes a token: for which service, on whose behalf (null: its own), its SHA-256, spaces and role, and when it ends. An operator's.
-- returns: one value
SELECT syncd.sync_service_make($1, $2, $3::bytea, $4::text[], $5, to_timestamp($6::double precision));

-- name: service_list
-- The tokens that there are and were, the oldest first, with where the service's own user is a member. An operator's.
-- returns: store.service_tokens.ListedToken
SELECT t.ordinal, t.service, n.name AS user_id, extract(epoch FROM t.made_at)::double precision AS made,
       extract(epoch FROM t.expires_at)::double precision AS expires, extract(epoch FROM t.revoked_at)::double precision AS revoked,
       ARRAY(SELECT concat(s.space_id, ':', m.role) FROM syncd.sync_memberships m JOIN syncd.sync_spaces s ON s.space_no = m.space_no
             WHERE m.user_no = t.user_no AND n.name = syncd.sync_service_user(t.service) ORDER BY s.space_id) AS spaces
FROM syncd.sync_service_tokens t JOIN syncd.sync_names n ON n.name_no = t.user_no ORDER BY t.ordinal;

-- name: service_revoke
-- Ends a token; the name of its service, or null. An operator's.
-- returns: one value
SELECT syncd.sync_service_revoke($1::integer);
