"""``python -m twisted_dist.cli dscheduler|dworker …``."""

import sys

from twisted_dist.cli import main

if __name__ == "__main__":
    sys.exit(getattr(main, sys.argv.pop(1))())
