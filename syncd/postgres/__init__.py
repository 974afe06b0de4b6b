"""A PostgreSQL of one's own and the schema in it: programs, cluster, migrations, functions, checks."""
