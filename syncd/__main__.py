"""`python -m syncd`, and the command `syncd`."""

import signal

# An interrupt while modules are loaded leaves no traceback. Where interrupts are ignored they stay so.
_ON_INTERRUPT = signal.getsignal(signal.SIGINT)
if _ON_INTERRUPT is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from syncd.cli import main

signal.signal(signal.SIGINT, _ON_INTERRUPT)

if __name__ == "__main__":
    main(prog_name="syncd")
