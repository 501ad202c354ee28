"""What do the layers cost? Time of each over torch's own norms and over a copy, in one run.

python -m benchmarks.layers_speed [--quick | --full] [--layers batch,batch_layer] [--turns 3] [--threads 0]
                                  [--kernel PATH] [--device cuda] [--memory fresh] [--write [docs/performance.md]]

Every layer, eager and compiled, float32 and bfloat16, contiguous and channels_last, at (64, 64, 56, 56); --full: at
four shapes. --write puts the tables between the two marks in the file.

All contenders of a case take turns, so what else the machine does falls on each alike; a figure is the median of the
turns, of processor time where there is one thread. What is freed is kept for the next tensor: else the C library hands
large ones back to the system or not by what was freed before, and giving pages anew takes longer than the layers do;
--memory fresh: each large tensor is new memory. The gradient has the memory layout of the input, as a convolution
behind the layer would give it. "copy" is x.clone(): it makes its result anew, as a layer does. Bytes: forward x is read
twice and y written, backward the gradient and x are read twice and one gradient is written; FEWER has the exceptions.
"""

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

import norms
from norms.dispatch import Path as Kernel
from norms.dispatch import use_kernel

SHAPES = ((64, 64, 56, 56), (8, 256, 14, 14), (32, 1024), (2, 64, 112, 112))
MARKS = ("<!-- layers_speed: start -->", "<!-- layers_speed: end -->")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
READS_AND_WRITES = {"forward": 3, "both": 8, "copy": 2}
# Of mean-only norm the gradient needs no x; population norm knows its statistics before, and reads each once.
FEWER = {"mean_only": {"forward": 3, "both": 6}, "population": {"forward": 2, "both": 5}}
# Turns of small shapes last this long at least, so that the clock is read for something.
TURN_S = 0.002
# Of glibc's mallopt: what is freed at the end of the heap goes back beyond the first; tensors apart from the heap from
# the second on; at most so many of them.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
Call = Callable[[], object]


class Case(NamedTuple):
    """An input and how the layers are run on it."""

    shape: tuple[int, ...]
    dtype: str
    layout: str
    mode: str

    def __str__(self) -> str:
        return f"{self.shape}, {self.dtype}, {self.layout}, {self.mode}"


class Timed(NamedTuple):
    """Seconds of a forward, and of forward and backward."""

    forward: float
    both: float


def cases(quick: bool, full: bool) -> Iterator[Case]:
    """Yield the cases of the large shape; quick: the contiguous float32 one; full: those of all shapes."""
    for shape in SHAPES if full else SHAPES[:1]:
        for dtype in ("float32",) if quick else DTYPES:
            for layout in ("contiguous", "channels_last") if len(shape) == 4 and not quick else ("contiguous",):
                for mode in ("eager", "compiled"):
                    yield Case(shape, dtype, layout, mode)


def contenders(shape: tuple[int, ...], wanted: list[str]) -> dict[str, nn.Module]:
    """Return torch's norms and ours for an input shape."""
    c = shape[1]
    torchs: dict[str, nn.Module] = {
        "torch BatchNorm": nn.BatchNorm2d(c) if len(shape) == 4 else nn.BatchNorm1d(c),
        "torch GroupNorm": nn.GroupNorm(32, c),
        "torch LayerNorm": nn.LayerNorm(shape[1:]),
    }
    ours = [n for n in norms.names() if n != "instance" or len(shape) > 2]
    return torchs | {n: norms.create(n, c) for n in ours if not wanted or n in wanted}


def measure(case: Case, device: str, turns: int, wanted: list[str]) -> tuple[dict[str, Timed], float]:
    """Return the medians of all contenders, and of a copy."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    # Alone, all layers compile the one method ChannelNorm.forward, which counts as one function recompiled.
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
    x, g = (torch.randn(case.shape, device=device).to(DTYPES[case.dtype]) for _ in range(2))
    if case.layout == "channels_last":
        x, g = (v.contiguous(memory_format=torch.channels_last) for v in (x, g))
    x.requires_grad_()
    calls: dict[tuple[str, str], Call] = {("copy", "copy"): x.detach().clone}
    for name, norm in contenders(case.shape, wanted).items():
        run = norm.to(device)
        if case.dtype == "bfloat16" and name.startswith("torch"):
            run = run.to(torch.bfloat16) if "Layer" in name else run
        layer = cast(nn.Module, torch.compile(run)) if case.mode == "compiled" else run
        calls[name, "forward"] = partial(layer, x)
        calls[name, "both"] = partial(_both, layer, x, g)
    clock = cuda_seconds if device == "cuda" else cpu_seconds
    found = take_turns(calls, turns, clock)
    named = {name: Timed(found[name, "forward"], found[name, "both"]) for name, kind in calls if kind == "both"}
    return named, found["copy", "copy"]


def _both(layer: nn.Module, x: Tensor, g: Tensor) -> None:
    x.grad = None
    torch.autograd.backward(layer(x), g)


def take_turns(
    calls: dict[tuple[str, str], Call], turns: int, clock: Callable[[Call, int], float]
) -> dict[tuple[str, str], float]:
    """Return the median seconds of each call; all are timed once a turn, after two calls that do not count."""
    repeats = {}
    for key, call in calls.items():
        call()
        repeats[key] = max(1, round(TURN_S / max(clock(call, 1), 1e-6)))
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(turns):
        for key, call in calls.items():
            seconds[key].append(clock(call, repeats[key]))
    return {key: statistics.median(values) for key, values in seconds.items()}


def cpu_seconds(call: Call, repeats: int) -> float:
    """Return the seconds of a call, over `repeats` in a row: on one thread processor time, else wall time."""
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = now()
    for _ in range(repeats):
        call()
    return (now() - start) / repeats


def cuda_seconds(call: Call, repeats: int) -> float:
    """Return the seconds of a call on the device by events, each time with the level-2 cache flushed."""
    cache_bytes = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    scratch = torch.empty(4 * cache_bytes, dtype=torch.int8, device="cuda")
    total_ms = 0.0
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        scratch.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        total_ms += start.elapsed_time(end)
    return total_ms / 1000 / repeats


def table(case: Case, timed: dict[str, Timed], copy_s: float) -> list[str]:
    """Return a table in Markdown: ms, ratios to torch's batch norm, bytes a second achieved over those of a copy,
    forward and both."""
    batch = timed["torch BatchNorm"]
    size = torch.Size(case.shape).numel() * DTYPES[case.dtype].itemsize
    copied = READS_AND_WRITES["copy"] * size / copy_s
    lines = [
        f"#### {case}",
        "",
        f"copy {copy_s * 1e3:.3f} ms, {copied / 1e9:.1f} GB/s",
        "",
        "| layer | forward ms | both ms | forward / BatchNorm | both / BatchNorm | of possible | both of possible |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, t in timed.items():
        moved = FEWER.get(name, READS_AND_WRITES)
        shares = [moved[kind] * size / getattr(t, kind) / copied for kind in ("forward", "both")]
        of_possible = " | ".join("-" if name == "none" else f"{share:.2f}" for share in shares)
        ratios = f"{t.forward / batch.forward:.2f} | {t.both / batch.both:.2f} | {of_possible}"
        lines.append(f"| {name} | {t.forward * 1e3:.3f} | {t.both * 1e3:.3f} | {ratios} |")
    return [*lines, ""]


def gate_lines(device: str, turns: int) -> list[str]:
    """Return what a skipped gate costs over nn.Identity, in calls that differ in nothing else."""
    x = torch.randn(8, 16, device=device)
    gate = norms.AdaptiveNorm("batch", num_features=16).to(device)
    norms.set_decision(gate, False)
    identity = nn.Identity()
    calls: dict[tuple[str, str], Call] = {("gate", ""): lambda: gate(x), ("identity", ""): lambda: identity(x)}
    found = take_turns(calls, max(turns, 51), cpu_seconds)
    ours, theirs = found["gate", ""], found["identity", ""]
    return [
        f"Skipped gate, eager: {ours * 1e6:.2f} us a call, nn.Identity {theirs * 1e6:.2f} us: "
        f"{ours / theirs:.2f} (target 1.05).",
        "",
    ]


def set_memory(kind: str) -> str:
    """Let the C library keep what is freed ("kept") or give every large tensor new memory; return what was reached."""
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = {"kept": ((MMAP_MAX, 0), (TRIM_THRESHOLD, -1)), "fresh": ((MMAP_THRESHOLD, 1 << 20),)}[kind]
    reached = change is not None and all(change(name, value) == 1 for name, value in wanted)
    return f"memory {kind}" if reached else "memory as the C library has it"


def machine(device: str, memory: str) -> str:
    """Return what the figures were measured on."""
    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, {memory}"


def place(text: str, lines: list[str]) -> str:
    """Return the text with the lines between its two marks.

    Raises:
        ValueError: not one mark each.
    """
    if any(text.count(mark) != 1 for mark in MARKS):
        raise ValueError(f"expected one line {MARKS[0]} and one {MARKS[1]}; write both where the tables are to stand")
    before, rest = text.split(MARKS[0])
    return "\n".join([before + MARKS[0], "", *lines]).rstrip() + "\n\n" + MARKS[1] + rest.split(MARKS[1])[1]


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the large contiguous float32 case alone")
    extent.add_argument("--full", action="store_true", help="four shapes")
    parser.add_argument("--layers", default="", help="comma-separated names; default: all")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--kernel", choices=get_args(Kernel), help="force a path of norms/dispatch.py")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--memory", default="kept", choices=("kept", "fresh"), help="what becomes of freed memory")
    parser.add_argument("--write", type=Path, nargs="?", const=Path("docs/performance.md"))
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    wanted = [name for name in options.layers.split(",") if name]
    said = " ".join(sys.argv[1:] if arguments is None else arguments)
    lines = [f"Written by `python -m benchmarks.layers_speed {said}`.".replace(" `.", "`."), ""]
    lines += [machine(options.device, set_memory(options.memory)) + ".", "", *gate_lines(options.device, options.turns)]
    print("\n".join(lines))
    with use_kernel(cast(Kernel, options.kernel)) if options.kernel else nullcontext():
        for case in cases(options.quick, options.full):
            part = table(case, *measure(case, options.device, options.turns, wanted))
            print("\n".join(part), flush=True)
            lines += part
    if options.write:
        options.write.write_text(place(options.write.read_text(), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
