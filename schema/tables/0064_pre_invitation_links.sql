-- Invitations by a link: who has its token becomes a member. The token is kept nowhere, only its SHA-256. A row stays until its link has ended and its
-- space gets another one, or until it is withdrawn.
CREATE TABLE syncd.sync_links (
    link_id    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    digest     bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    space_no   bigint NOT NULL REFERENCES syncd.sync_spaces,
    made_by    bigint NOT NULL REFERENCES syncd.sync_names,
    role       text NOT NULL CHECK (role IN ('writer', 'reader')),
    uses       integer NOT NULL CHECK (uses BETWEEN 1 AND 1000),
    used       integer NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
    made_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at <= made_at + interval '30 days')
);
CREATE INDEX sync_links_space ON syncd.sync_links (space_no, made_by);
CREATE INDEX sync_links_maker ON syncd.sync_links (made_by);

-- Who has joined by a link, so that who leaves and comes back by it uses it up once.
CREATE TABLE syncd.sync_link_joins (
    link_id uuid NOT NULL REFERENCES syncd.sync_links ON DELETE CASCADE,
    user_no bigint NOT NULL REFERENCES syncd.sync_names,
    PRIMARY KEY (link_id, user_no)
);
CREATE INDEX sync_link_joins_user ON syncd.sync_link_joins (user_no);

-- Whom an owner has taken out of a space: no link brings them back. The row goes when an owner adds or invites them again.
CREATE TABLE syncd.sync_removals (
    user_no    bigint NOT NULL REFERENCES syncd.sync_names,
    space_no   bigint NOT NULL REFERENCES syncd.sync_spaces,
    removed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_no, space_no)
);
CREATE INDEX sync_removals_space ON syncd.sync_removals (space_no);

-- The owner's functions alone see them (functions/links.sql); the role that serves has no grant.
ALTER TABLE syncd.sync_links ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_link_joins ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_removals ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_keeps ON syncd.sync_links TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_link_joins TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_removals TO CURRENT_USER USING (true) WITH CHECK (true);
