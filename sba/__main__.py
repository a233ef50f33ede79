"""``python -m sba``."""

from sba.cli.commands import main

if __name__ == "__main__":
    main(prog_name="python -m sba")
