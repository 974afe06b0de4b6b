"""A durable queue of tasks: a run is a record, so a phone may ask for one offline, and sees what became of it."""
