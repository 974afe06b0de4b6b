"""PostgreSQL: one call to the database each, migrations and their checks, the bus, and the server that syncd starts."""
