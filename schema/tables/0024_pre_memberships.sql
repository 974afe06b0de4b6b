-- Whether lists of memberships from outside are taken over: the owner says so (`syncd migrate --memberships`, or `serve`), never
-- the role that serves, which could else make anybody a member of anything. Where some were, they go on being.
ALTER TABLE syncd.sync_server ADD COLUMN memberships text NOT NULL DEFAULT 'table' CHECK (memberships IN ('table', 'external'));
UPDATE syncd.sync_server SET memberships = 'external' WHERE EXISTS (SELECT FROM syncd.sync_adoptions);
