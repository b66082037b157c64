"""``python -m innerloop``: the same as the ``innerloop`` command."""

import sys

from innerloop.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
