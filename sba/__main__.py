"""``python -m sba``."""

import sys

from sba.core.errors import MissingExtraError

try:
    from sba.cli.commands import main
except MissingExtraError as error:
    sys.exit(f"error: {error}")

if __name__ == "__main__":
    main(prog_name="python -m sba")
