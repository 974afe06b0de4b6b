-- Spaces and their members, as the acting user.

-- name: space_create
-- A new space, owned by its maker.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_space_create($1, $2);

-- name: space_list
-- The acting user's spaces, or the one named.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_space_list($1);

-- name: space_delete
-- Ends a space and every membership in it.
-- returns: nothing
SELECT syncd.sync_space_delete($1);

-- name: member_list
-- The members of a space that the acting user is a member of.
-- returns: store.spaces.MemberRow
SELECT user_id, role, joined_us FROM syncd.sync_member_list($1);

-- name: member_put
-- Adds a member or changes a role.
-- returns: store.spaces.MemberRow
SELECT user_id, role, joined_us FROM syncd.sync_member_put($1, $2, $3);

-- name: member_remove
-- Removes a member, or lets the acting user leave.
-- returns: nothing
SELECT syncd.sync_member_remove($1, $2);
