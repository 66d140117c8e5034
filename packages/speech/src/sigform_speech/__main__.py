"""`python -m sigform_speech` is `sigform-separate`."""

from sigform_speech.cli import main

raise SystemExit(main())
