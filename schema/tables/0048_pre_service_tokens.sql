-- Tokens of services: what another part of the application shows in place of a user's. A token itself is kept nowhere, only its SHA-256.
-- `user_no`: who acts: the service's own user, or the one on whose behalf it works. A row stays when its token is revoked.
CREATE TABLE syncd.sync_service_tokens (
    ordinal    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest     bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    service    text COLLATE "C" NOT NULL,
    user_no    integer NOT NULL REFERENCES syncd.sync_names,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    revoked_at timestamptz
);
ALTER TABLE syncd.sync_service_tokens ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_keeps ON syncd.sync_service_tokens TO CURRENT_USER USING (true) WITH CHECK (true);
