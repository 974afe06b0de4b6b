"""`make demo-live`: devices that type into the same records, each on its own screen, and how long a keystroke takes."""
