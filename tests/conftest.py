"""Every test: no time limit on Hypothesis' examples, nor on drawing them, since a busy machine is no failure.

And before anything imports Triton: without a CUDA device its kernels are interpreted, which is decided on import.

Ctrl-C is not ignored, though a shell starts what runs in its background (`make test &`, nohup) so: tests send it to
processes that they start, which would inherit that and never end.
"""

import os
import signal
from pathlib import Path

from hypothesis import HealthCheck, settings

settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    # What lands a change judges that change, by the same examples each time; other runs look further.
    derandomize="CI" in os.environ,
)
settings.load_profile("unhurried")
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
