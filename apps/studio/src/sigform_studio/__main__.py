"""`python -m sigform_studio` is `sigform-studio`."""

import sys

from sigform_studio.cli import main

if __name__ == "__main__":
    sys.exit(main())
