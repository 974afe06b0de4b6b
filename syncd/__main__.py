"""`python -m syncd`, and the command `syncd`."""

import signal

# Until a command is loaded (syncd/cli), which then hears of interrupts. Where they are ignored they stay so.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from syncd.cli import main

if __name__ == "__main__":
    main(prog_name="syncd")
