"""Settings of every test run."""

import os
import signal
import tempfile
from pathlib import Path

# Several test processes on few cores slow each other down tenfold when each takes all the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# torch makes a folder when its compiler is first imported: not in one that a test looks into.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(tempfile.gettempdir()) / "torchinductor"))
# A shell starts background jobs deaf to Ctrl-C; the commands under test must hear it all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)
