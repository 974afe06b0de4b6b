-- A group of pushes (functions/push_groups.sql) writes as the owner, and while it does so nobody else acts. Its policies ask of each row
-- for its own author: by its device, of which no two users are in one group. `writing_…` comes after the other policies, by name,
-- so that it is looked at last. The memberships are read by a scalar query, which is one probe a row in every plan.

CREATE POLICY writing_group_finds ON syncd.sync_changes FOR SELECT TO CURRENT_USER
    USING (user_no = (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(6)), client_no)]);
CREATE POLICY writing_group_appends ON syncd.sync_changes FOR INSERT TO CURRENT_USER
    WITH CHECK (user_no = (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(6)), client_no)]
                AND (SELECT m.role FROM syncd.sync_memberships m
                     WHERE m.user_no = sync_changes.user_no AND m.space_no = sync_changes.space_no) <> 'reader');

-- What is merged with is read by the first of the group that writes to the space.
CREATE POLICY writing_group_finds ON syncd.sync_records FOR SELECT TO CURRENT_USER
    USING ((SELECT m.role FROM syncd.sync_memberships m WHERE m.space_no = sync_records.space_no AND m.user_no =
                (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(7)), sync_records.space_no)]) <> 'reader');
CREATE POLICY writing_group_adds ON syncd.sync_records FOR INSERT TO CURRENT_USER
    WITH CHECK ((SELECT m.role FROM syncd.sync_memberships m WHERE m.space_no = sync_records.space_no AND m.user_no =
                     (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(6)), sync_records.client_no)]) <> 'reader');
CREATE POLICY writing_group_merges ON syncd.sync_records FOR UPDATE TO CURRENT_USER
    USING ((SELECT m.role FROM syncd.sync_memberships m WHERE m.space_no = sync_records.space_no AND m.user_no =
                (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(7)), sync_records.space_no)]) <> 'reader')
    WITH CHECK ((SELECT m.role FROM syncd.sync_memberships m WHERE m.space_no = sync_records.space_no AND m.user_no =
                     (SELECT syncd.sync_group(5))[array_position((SELECT syncd.sync_group(6)), sync_records.client_no)]) <> 'reader');
