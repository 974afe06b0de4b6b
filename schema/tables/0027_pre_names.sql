-- Names that were made for what is written, by whom, and numbers for them that no refusal uses up.

-- `made_by`: the user whose names it counts among; null: nobody's, as a user's own. `leaving`: nothing referred to it, and it is
-- about to be removed; whoever writes with it takes that back first (sync_names_add).
ALTER TABLE syncd.sync_names ADD COLUMN made_by integer, ADD COLUMN leaving boolean NOT NULL DEFAULT false;
CREATE INDEX sync_names_made ON syncd.sync_names (made_by) WHERE made_by IS NOT NULL;

-- Numbers that lie ready, of a kind (`name`, `space`). A sequence's are gone when their transaction is refused; a row that a
-- transaction deleted comes back.
CREATE TABLE syncd.sync_numbers (
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('name', 'space')),
    no   integer NOT NULL,
    PRIMARY KEY (kind, no)
);
ALTER TABLE syncd.sync_numbers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
