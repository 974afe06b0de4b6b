-- What a device is told of its user's spaces, their names and the user's roles, it is told once (functions/roles.sql). `head` is the number of the
-- last change of them that a user has had, and `place` is the number of the last one of a space. A user or space of before has no row: it did not change since.
-- `boot_us`: the start of the database under which the last one was.
CREATE TABLE syncd.sync_role_heads (
    user_no bigint PRIMARY KEY REFERENCES syncd.sync_names,
    head    bigint NOT NULL,
    boot_us bigint NOT NULL
);
CREATE TABLE syncd.sync_role_changes (
    user_no  bigint NOT NULL REFERENCES syncd.sync_names,
    space_no bigint NOT NULL REFERENCES syncd.sync_spaces,
    place    bigint NOT NULL,
    PRIMARY KEY (user_no, space_no)
);
CREATE INDEX sync_role_changes_place ON syncd.sync_role_changes (user_no, place);

-- The owner's functions write them, and read the changes. A user's pull asks for the head.
ALTER TABLE syncd.sync_role_heads ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE syncd.sync_role_changes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_keeps ON syncd.sync_role_heads TO CURRENT_USER USING (true) WITH CHECK (true);
CREATE POLICY owner_keeps ON syncd.sync_role_changes TO CURRENT_USER USING (true) WITH CHECK (true);
GRANT SELECT ON syncd.sync_role_heads TO syncd_runtime;
