"""`python -m sigform_suite` is `sigform`."""

import sys

from sigform_suite.cli import main

if __name__ == "__main__":
    sys.exit(main())
