"""Pure: instants, changes and errors. No I/O, no clock, no randomness."""
