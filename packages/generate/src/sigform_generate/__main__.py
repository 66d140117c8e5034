"""`python -m sigform_generate` is `sigform-generate`."""

from sigform_generate.cli import main

raise SystemExit(main())
