"""`python -m sigform_forecast` is `sigform-forecast`."""

from sigform_forecast.cli import main

raise SystemExit(main())
