"""A clinic: a FastAPI application with its own login and tables, and visits that nurses' phones sync offline."""
