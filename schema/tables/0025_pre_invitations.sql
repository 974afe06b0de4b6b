-- Who put whom where: bounds on what one user does to others, invitations, blocks, and ids of deleted spaces.

-- `added_by`: who made this membership, where that is somebody else and nobody was asked; null by the user's own hand (made,
-- accepted), and from outside.
ALTER TABLE syncd.sync_memberships ADD COLUMN added_by bigint;

-- Of a deleted space: `owners` may make one with its id again. It then has a new id itself, and `former_id` is the one under
-- which devices knew it, which they are told to leave.
ALTER TABLE syncd.sync_spaces ADD COLUMN owners bigint[], ADD COLUMN former_id text COLLATE "C";

-- A membership that counts when its user accepts it. It is no row of sync_memberships until then, so no policy knows it.
CREATE TABLE syncd.sync_invitations (
    user_no    bigint NOT NULL REFERENCES syncd.sync_names,
    space_no   bigint NOT NULL REFERENCES syncd.sync_spaces,
    role       text NOT NULL CHECK (role IN ('owner', 'writer', 'reader')),
    invited_by bigint NOT NULL REFERENCES syncd.sync_names,
    invited_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_no, space_no)
);
CREATE INDEX sync_invitations_space ON syncd.sync_invitations (space_no, user_no);

-- Whose additions and invitations a user refuses. By name, so that one may be blocked who was never here.
CREATE TABLE syncd.sync_blocks (
    user_no    bigint NOT NULL REFERENCES syncd.sync_names,
    blocked    text COLLATE "C" NOT NULL,
    blocked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_no, blocked)
);

-- What a user may do so many times an hour: all of it is free again at `until`.
CREATE TABLE syncd.sync_allowances (
    user_no bigint NOT NULL,
    what    text NOT NULL,
    until   timestamptz NOT NULL,
    PRIMARY KEY (user_no, what)
) WITH (fillfactor = 50);

ALTER TABLE syncd.sync_invitations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_blocks ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_allowances ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- It has the bounds as a third parameter now. Only functions call it.
DROP FUNCTION IF EXISTS syncd.sync_make_spaces(text, jsonb);
