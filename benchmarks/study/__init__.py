"""The study: does following a plan help, which norm should one take? `python -m benchmarks.study`, docs/evidence.md."""
