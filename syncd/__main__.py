"""`python -m syncd` is `syncd`."""

from syncd.cli import main

if __name__ == "__main__":
    main(prog_name="syncd")
