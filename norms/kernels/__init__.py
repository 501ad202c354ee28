"""Triton kernels. Only norms/dispatch.py imports them, where Triton is installed."""
