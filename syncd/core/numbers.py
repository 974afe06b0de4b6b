"""Bounds of the numbers that names and spaces have in the database. Pure."""

# Of names and of spaces each: 32 bits with a sign.
ALL = 2**31 - 1
