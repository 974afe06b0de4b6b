-- What proves to the database that a server says who acts (functions/security.sql). Without a row whoever may call says so.

-- `pads`: the key's inner pad, `syncd context`, a zero byte, and the outer pad, as HMAC-SHA256 takes them (RFC 2104).
CREATE TABLE syncd.sync_context_key (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    pads bytea NOT NULL CHECK (octet_length(pads) = 142)
);
ALTER TABLE syncd.sync_context_key ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_reads ON syncd.sync_context_key TO CURRENT_USER USING (true) WITH CHECK (true);
