-- Who is in a space now.
SELECT roster, user_id, client_id, state FROM syncd.sync_presence_in($1, $2, $3)
