"""The study: does following a plan help, and which norm should one take? `python -m benchmarks.study`, docs/evidence.md."""
