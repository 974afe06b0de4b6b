-- Which role may execute what: the role that serves only what is listed here, PUBLIC nothing. What is not listed is the owner's, and
-- an operator's who acts as it or is a superuser: the import of everybody's changes. Compaction has a role of its own.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA syncd FROM PUBLIC, syncd_runtime, syncd_compactor;

-- base
GRANT EXECUTE ON FUNCTION
    syncd.sync_micros, syncd.sync_instant, syncd.sync_is_deleted
    TO syncd_runtime;

-- rules
GRANT EXECUTE ON FUNCTION
    syncd.sync_rules_see, syncd.sync_plain_fields, syncd.sync_rules_repeats, syncd.sync_rules_written
    TO syncd_runtime;

-- schemas
GRANT EXECUTE ON FUNCTION syncd.sync_schemas_mark, syncd.sync_schemas_in_force TO syncd_runtime;

-- writable_by
GRANT EXECUTE ON FUNCTION
    syncd.sync_name_and_objects, syncd.sync_unwritable_field, syncd.sync_other_registers, syncd.sync_may_append, syncd.sync_may_store, syncd.sync_unwritable_said,
    syncd.sync_refuse_unwritable, syncd.sync_check_writable, syncd.sync_unwritable_move, syncd.sync_check_follow
    TO syncd_runtime;

-- starts
GRANT EXECUTE ON FUNCTION
    syncd.sync_start, syncd.sync_is_strange
    TO syncd_runtime;

-- context
GRANT EXECUTE ON FUNCTION
    syncd.sync_user, syncd.sync_session, syncd.sync_context_kind
    TO syncd_runtime;

-- names
GRANT EXECUTE ON FUNCTION
    syncd.sync_name, syncd.sync_names_known, syncd.sync_names_left, syncd.sync_names_add,
    syncd.sync_names_needed, syncd.sync_names_first, syncd.sync_numbers_make, syncd.sync_numbers_used
    TO syncd_runtime;

-- acting
GRANT EXECUTE ON FUNCTION
    syncd.sync_act_as, syncd.sync_act_as_number, syncd.sync_adopt, syncd.sync_adopt_said,
    syncd.sync_personal_space
    TO syncd_runtime;

-- devices
GRANT EXECUTE ON FUNCTION
    syncd.sync_device, syncd.sync_same_device
    TO syncd_runtime;

-- audit
GRANT EXECUTE ON FUNCTION syncd.sync_audit_say, syncd.sync_audit_count, syncd.sync_audit_of TO syncd_runtime;
GRANT EXECUTE ON FUNCTION syncd.sync_audit_note TO syncd_compactor;

-- usage
GRANT EXECUTE ON FUNCTION syncd.sync_usage_look TO syncd_runtime;
GRANT EXECUTE ON FUNCTION syncd.sync_usage_count TO syncd_compactor;

-- quotas
GRANT EXECUTE ON FUNCTION
    syncd.sync_quota_over, syncd.sync_quota_rates, syncd.sync_quota_of, syncd.sync_quota_device
    TO syncd_runtime;

-- held
GRANT EXECUTE ON FUNCTION
    syncd.sync_make_spaces, syncd.sync_hold, syncd.sync_held_due, syncd.sync_held_waiting, syncd.sync_held_of_device, syncd.sync_held_mark,
    syncd.sync_held_next, syncd.sync_held_take(varchar, text, text, bigint[], integer),
    syncd.sync_held_list, syncd.sync_held_drop, syncd.sync_held_count, syncd.sync_held_number, syncd.sync_held_with_room
    TO syncd_runtime;

-- first_generation
GRANT EXECUTE ON FUNCTION
    syncd.sync_moved, syncd.sync_members, syncd.sync_legacy_instant, syncd.sync_legacy_fields, syncd.sync_legacy_deletion,
    syncd.sync_legacy_update, syncd.sync_legacy_change, syncd.sync_legacy_log, syncd.sync_legacy_log_text,
    syncd.sync_legacy_state, syncd.sync_legacy_state_text, syncd.sync_nests, syncd.sync_with_objects, syncd.sync_ties, syncd.sync_nesting
    TO syncd_runtime;

-- cursors
GRANT EXECUTE ON FUNCTION
    syncd.sync_phase, syncd.sync_phase_head, syncd.sync_phase_base, syncd.sync_phase_after, syncd.sync_cursor_places, syncd.sync_cursor_positions, syncd.sync_unmoved, syncd.sync_cursor_news, syncd.sync_cursor_changes, syncd.sync_cursor_used,
    syncd.sync_cursor_prune, syncd.sync_cursor_keep, syncd.sync_cursor_at
    TO syncd_runtime;
GRANT EXECUTE ON FUNCTION syncd.sync_cursors_collect, syncd.sync_devices_collect TO syncd_compactor;

-- feed_text
GRANT EXECUTE ON FUNCTION
    syncd.sync_plain, syncd.sync_whole_mark, syncd.sync_change_text, syncd.sync_record_text,
    syncd.sync_log_text, syncd.sync_state_text, syncd.sync_sweep_text
    TO syncd_runtime;

-- page_cuts
GRANT EXECUTE ON FUNCTION
    syncd.sync_page_most, syncd.sync_change_size, syncd.sync_record_size, syncd.sync_log_cut,
    syncd.sync_state_cut, syncd.sync_sweep_cut
    TO syncd_runtime;

-- news
GRANT EXECUTE ON FUNCTION
    syncd.sync_seq_before, syncd.sync_gone, syncd.sync_seen, syncd.sync_joined, syncd.sync_heads_news,
    syncd.sync_feeds_moved, syncd.sync_behind, syncd.sync_left, syncd.sync_chosen
    TO syncd_runtime;

-- roles
GRANT EXECUTE ON FUNCTION syncd.sync_roles_untold, syncd.sync_roles_next, syncd.sync_roles TO syncd_runtime;

-- small_feeds
GRANT EXECUTE ON FUNCTION
    syncd.sync_feeds_fitting, syncd.sync_small_pieces, syncd.sync_legacy_small_pieces,
    syncd.sync_feeds_together
    TO syncd_runtime;

-- own_push
GRANT EXECUTE ON FUNCTION
    syncd.sync_legacy_own_text, syncd.sync_legacy_repeats, syncd.sync_made_between, syncd.sync_own_text
    TO syncd_runtime;

-- shared_pages
GRANT EXECUTE ON FUNCTION
    syncd.sync_feed_version, syncd.sync_sweep_words, syncd.sync_shared_page
    TO syncd_runtime;

-- pull
GRANT EXECUTE ON FUNCTION
    syncd.sync_tables_in, syncd.sync_phase_cut, syncd.sync_phase_text, syncd.sync_pull_feeds,
    syncd.sync_pull_news, syncd.sync_pull_acting, syncd.sync_pull, syncd.sync_reads, syncd.sync_unreadable
    TO syncd_runtime;

-- feeds
GRANT EXECUTE ON FUNCTION
    syncd.sync_advance
    TO syncd_runtime;

-- idempotency
GRANT EXECUTE ON FUNCTION
    syncd.sync_receipts, syncd.sync_receipts_within, syncd.sync_used_ids, syncd.sync_pushed_before, syncd.sync_content, syncd.sync_same_content, syncd.sync_spaces_named,
    syncd.sync_repeats
    TO syncd_runtime;

-- merge
GRANT EXECUTE ON FUNCTION
    syncd.sync_merge, syncd.sync_twice, syncd.sync_apart, syncd.sync_whole, syncd.sync_tells, syncd.sync_woken
    TO syncd_runtime;

-- unseen
GRANT EXECUTE ON FUNCTION
    syncd.sync_is_unseen, syncd.sync_is_hidden, syncd.sync_overwritten, syncd.sync_unseen, syncd.sync_told, syncd.sync_based, syncd.sync_marked, syncd.sync_imported
    TO syncd_runtime;

-- touched
GRANT EXECUTE ON FUNCTION
    syncd.sync_size_at_most, syncd.sync_check_size, syncd.sync_beyond
    TO syncd_runtime;

-- append
GRANT EXECUTE ON FUNCTION
    syncd.sync_apply, syncd.sync_wave, syncd.sync_record_at, syncd.sync_judged_registers,
    syncd.sync_append_folded, syncd.sync_apply_push
    TO syncd_runtime;

-- push_single
GRANT EXECUTE ON FUNCTION
    syncd.sync_enter, syncd.sync_merge_single, syncd.sync_not_single, syncd.sync_push_single
    TO syncd_runtime;

-- push
GRANT EXECUTE ON FUNCTION
    syncd.sync_own_latest, syncd.sync_push_may, syncd.sync_push_names, syncd.sync_push_take,
    syncd.sync_push_places, syncd.sync_push_merge, syncd.sync_push_one, syncd.sync_push_makes, syncd.sync_push_unwritable,
    syncd.sync_push
    TO syncd_runtime;

-- spaces
GRANT EXECUTE ON FUNCTION
    syncd.sync_role_in, syncd.sync_space_create, syncd.sync_space_list, syncd.sync_space_rename, syncd.sync_space_delete,
    syncd.sync_space_make, syncd.sync_roster, syncd.sync_member_list, syncd.sync_member_put, syncd.sync_member_remove
    TO syncd_runtime;

-- invitations
GRANT EXECUTE ON FUNCTION
    syncd.sync_member_add, syncd.sync_invitation_list,
    syncd.sync_invitation_accept, syncd.sync_invitation_decline, syncd.sync_block_list, syncd.sync_block, syncd.sync_unblock
    TO syncd_runtime;

-- links
GRANT EXECUTE ON FUNCTION
    syncd.sync_link_make, syncd.sync_link_list, syncd.sync_link_withdraw, syncd.sync_link_join
    TO syncd_runtime;

-- live
GRANT EXECUTE ON FUNCTION
    syncd.sync_note_members, syncd.sync_membership_news, syncd.sync_heads, syncd.sync_feeds_in, syncd.sync_feeds_of,
    syncd.sync_greet, syncd.sync_still_members, syncd.sync_live_acting, syncd.sync_live, syncd.sync_presence_put,
    syncd.sync_presence_in
    TO syncd_runtime;

-- history
GRANT EXECUTE ON FUNCTION
    syncd.sync_written, syncd.sync_own_fields, syncd.sync_space_read, syncd.sync_seq_at, syncd.sync_moment, syncd.sync_seq_lost,
    syncd.sync_steps_left, syncd.sync_change_before, syncd.sync_registers_in, syncd.sync_version_at, syncd.sync_version_text, syncd.sync_record_named, syncd.sync_history,
    syncd.sync_space_at, syncd.sync_past_acting, syncd.sync_past
    TO syncd_runtime;

-- revert
GRANT EXECUTE ON FUNCTION
    syncd.sync_later_register, syncd.sync_is_reverted, syncd.sync_of_others, syncd.sync_way_without, syncd.sync_acted_on,
    syncd.sync_reverts, syncd.sync_names_among, syncd.sync_actor_bytes
    TO syncd_runtime;

-- restore
GRANT EXECUTE ON FUNCTION
    syncd.sync_way, syncd.sync_way_back, syncd.sync_server_for, syncd.sync_writer_for, syncd.sync_restored_between, syncd.sync_restored_before,
    syncd.sync_restore_wave, syncd.sync_restore_space, syncd.sync_restore_counted, syncd.sync_restore_bounded, syncd.sync_restore_write,
    syncd.sync_restore
    TO syncd_runtime;

-- export
GRANT EXECUTE ON FUNCTION
    syncd.sync_line_size, syncd.sync_export_page, syncd.sync_export_space, syncd.sync_export_member,
    syncd.sync_export_folded
    TO syncd_runtime;

-- import_spaces
GRANT EXECUTE ON FUNCTION
    syncd.sync_space_restore, syncd.sync_space_put_back
    TO syncd_runtime;

-- import
GRANT EXECUTE ON FUNCTION
    syncd.sync_import_wave, syncd.sync_import_append, syncd.sync_import_names, syncd.sync_import_same, syncd.sync_import_may,
    syncd.sync_import_lock, syncd.sync_import_marks, syncd.sync_import_take, syncd.sync_import_places,
    syncd.sync_import
    TO syncd_runtime;

-- compaction
GRANT EXECUTE ON FUNCTION
    syncd.sync_unremembered, syncd.sync_guard, syncd.sync_unremembered_in, syncd.sync_erased_only
    TO syncd_runtime;
GRANT EXECUTE ON FUNCTION
    syncd.sync_lease_take, syncd.sync_lease_beat, syncd.sync_own_fields, syncd.sync_own_deletion, syncd.sync_archive_line,
    syncd.sync_foldable, syncd.sync_raise_horizon, syncd.sync_husk, syncd.sync_fold, syncd.sync_forgettable, syncd.sync_forget,
    syncd.sync_seq_before, syncd.sync_instant, syncd.sync_names_idle, syncd.sync_names_used, syncd.sync_names_leave,
    syncd.sync_names_readers, syncd.sync_names_remove
    TO syncd_compactor;

-- erased
GRANT EXECUTE ON FUNCTION
    syncd.sync_is_erased, syncd.sync_is_instant, syncd.sync_erased_stays, syncd.sync_was_erased, syncd.sync_erased_in
    TO syncd_runtime;
GRANT EXECUTE ON FUNCTION syncd.sync_is_erased TO syncd_compactor;

-- erase_user
GRANT EXECUTE ON FUNCTION syncd.sync_erase_ask TO syncd_runtime;

-- digest
GRANT EXECUTE ON FUNCTION
    syncd.sync_digest_of, syncd.sync_digest_bucket, syncd.sync_digest_text, syncd.sync_digest_fold_feed,
    syncd.sync_digest_lag, syncd.sync_digest_touched, syncd.sync_digest_now, syncd.sync_digest_bucket_now,
    syncd.sync_digest_feeds, syncd.sync_digest_tables, syncd.sync_digest_acting, syncd.sync_digest_compare,
    syncd.sync_digest_trouble, syncd.sync_digest, syncd.sync_digest_fold
    TO syncd_runtime;

-- standbys
GRANT EXECUTE ON FUNCTION
    syncd.sync_members_now, syncd.sync_wal_bytes, syncd.sync_connected_as, syncd.sync_read_point, syncd.sync_not_there, syncd.sync_read_there
    TO syncd_runtime;

-- services
GRANT EXECUTE ON FUNCTION syncd.sync_service_token TO syncd_runtime;

-- push_groups
GRANT EXECUTE ON FUNCTION syncd.sync_push_together, syncd.sync_push_group TO syncd_runtime;

-- moves
GRANT EXECUTE ON FUNCTION
    syncd.sync_moves, syncd.sync_writers, syncd.sync_move_parts, syncd.sync_move_places, syncd.sync_move_into, syncd.sync_move_id, syncd.sync_move_away, syncd.sync_move_begin, syncd.sync_move_lock, syncd.sync_move,
    syncd.sync_push_moving, syncd.sync_follow, syncd.sync_follow_marks, syncd.sync_push_following
    TO syncd_runtime;

-- consume
GRANT EXECUTE ON FUNCTION syncd.sync_consumer_lags TO syncd_runtime;

-- projections
GRANT EXECUTE ON FUNCTION syncd.sync_projections_step, syncd.sync_projections_fill, syncd.sync_projection_lags TO syncd_runtime;

-- webhooks
GRANT EXECUTE ON FUNCTION syncd.sync_webhook_counts TO syncd_runtime;

-- What the policies ask of who uses the first generation's view, which may have been made by an older syncd (schema/legacy_view.sql); and
-- what the role of an application's backend is granted, and that of consumers, which reach nothing else (functions/write.sql, consume.sql).
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'syncd_sql') THEN
        GRANT EXECUTE ON FUNCTION syncd.sync_user, syncd.sync_group, syncd.sync_acting_in TO syncd_sql;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'syncd_writer') THEN
        GRANT USAGE ON SCHEMA syncd TO syncd_writer;
        GRANT EXECUTE ON FUNCTION syncd.write, syncd.read TO syncd_writer;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'syncd_consumer') THEN
        REVOKE ALL ON ALL FUNCTIONS IN SCHEMA syncd FROM syncd_consumer;
        GRANT USAGE ON SCHEMA syncd TO syncd_consumer;
        GRANT EXECUTE ON FUNCTION
            syncd.sync_consumer_named, syncd.sync_consume_lease, syncd.sync_consume_leave, syncd.sync_consume_silent, syncd.sync_consume_look,
            syncd.sync_consume_look_at, syncd.sync_consume_read, syncd.sync_consume_ack, syncd.sync_consume_acked,
            syncd.sync_last_erasure
            TO syncd_consumer;
    END IF;
END $$;
