-- Spaces and their members, as the acting user. Bounds are those of functions/user_bounds.sql, as JSON.

-- name: space_create
-- A new space, owned by its maker.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_space_make($1, $2, $3::jsonb);

-- name: space_list
-- The acting user's spaces, or the one named.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_space_list($1);

-- name: space_rename
-- Another name for a space.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_space_rename($1, $2, $3::jsonb);

-- name: space_delete
-- Ends a space and every membership in it.
-- returns: nothing
SELECT syncd.sync_space_delete($1);

-- name: member_list
-- The members of a space that the acting user is a member of, and for an owner those who were invited.
-- returns: store.spaces.MemberRow
SELECT user_id, role, joined_us, invited_by, invited_us FROM syncd.sync_roster($1);

-- name: member_put
-- Adds a member, invites one, or changes a role.
-- returns: store.spaces.MemberRow
SELECT user_id, role, joined_us, invited_by, invited_us FROM syncd.sync_member_add($1, $2, $3, $4, $5::jsonb);

-- name: member_remove
-- Removes a member, withdraws an invitation, or lets the acting user leave.
-- returns: nothing
SELECT syncd.sync_member_remove($1, $2);

-- name: invitation_list
-- What the acting user is invited to.
-- returns: store.spaces.InvitationRow
SELECT space_id, name, role, invited_by, invited_us FROM syncd.sync_invitation_list();

-- name: invitation_accept
-- Makes an invitation a membership.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_invitation_accept($1, $2::jsonb);

-- name: invitation_decline
-- Ends an invitation.
-- returns: nothing
SELECT syncd.sync_invitation_decline($1);

-- name: block_list
-- Whom the acting user blocks.
-- returns: store.spaces.BlockRow
SELECT user_id, blocked_us FROM syncd.sync_block_list();

-- name: block
-- Refuses what another user would do to the acting one.
-- returns: nothing
SELECT syncd.sync_block($1, $2::jsonb);

-- name: unblock
-- Ends a block.
-- returns: nothing
SELECT syncd.sync_unblock($1);

-- name: link_make
-- A link to a space, by the SHA-256 of its token.
-- returns: store.spaces.LinkRow
SELECT link_id, role, uses, used, made_by, made_us, expires_us FROM syncd.sync_link_make($1, $2, $3, $4, $5, $6::jsonb);

-- name: link_list
-- The links that are in force in a space, for its owners.
-- returns: store.spaces.LinkRow
SELECT link_id, role, uses, used, made_by, made_us, expires_us FROM syncd.sync_link_list($1);

-- name: link_withdraw
-- Ends a link.
-- returns: nothing
SELECT syncd.sync_link_withdraw($1, $2);

-- name: link_join
-- Makes the acting user a member by a link, by the SHA-256 of its token.
-- returns: store.spaces.SpaceRow
SELECT id, name, role, created_us FROM syncd.sync_link_join($1, $2::jsonb);
