"""Every test: no time limit on an example of Hypothesis, since a busy machine is no failure.

And before anything imports Triton: without a CUDA device its kernels are interpreted, which is decided on import.
"""

import os
from pathlib import Path

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
