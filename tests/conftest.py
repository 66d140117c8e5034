"""Settings of every test run."""

import os

# Several test processes on few cores slow each other down tenfold when each takes all the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
