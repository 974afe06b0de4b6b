"""Pure: what is said on the wire, what a cursor means. Bytes, times and ids are arguments."""
