"""An agent that tidies the notes of a space that it is a member of; what a run of it did is taken back as one."""
