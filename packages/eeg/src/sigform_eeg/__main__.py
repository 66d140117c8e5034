"""`python -m sigform_eeg` is `sigform-decode`."""

from sigform_eeg.cli import main

raise SystemExit(main())
