"""The demonstration: the main job end to end on real data. The only part of app that reaches clients and norms."""

from app.demo.run import run

__all__ = ["run"]
