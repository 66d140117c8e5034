"""`python -m sigform_superres` is `sigform-upscale`."""

from sigform_superres.cli import main

raise SystemExit(main())
