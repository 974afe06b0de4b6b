"""What `make` runs that is not part of what is published."""
