"""The tables of Django's."""
