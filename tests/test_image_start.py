"""How the image starts: what was compiled when it was built is given to numba where that may write."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from assessor.kernels import warm
from assessor.kernels.dispatch import COMPILE_FROM

ROOT = Path(__file__).parents[1]

numba = pytest.importorskip("numba")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as /opt/normgauge is in the image: with the script and the compiled kernel, and read-only."""
    from numba.core.caching import UserProvidedCacheLocator

    from assessor.kernels import compiled

    warm()
    image = tmp_path_factory.mktemp("image")
    name: str = UserProvidedCacheLocator.get_suitable_cache_subpath(compiled.__file__)  # type: ignore[no-untyped-call]
    (image / "kernels" / name).mkdir(parents=True)
    here = next(value.stats.cache_path for value in vars(compiled).values() if hasattr(value, "stats"))
    for path in Path(here).glob("compiled.*.nb?"):
        shutil.copy(path, image / "kernels" / name)
    # What others compiled at the same time may have taken this kernel's place in that cache; here no one else writes.
    warmed = [sys.executable, "-c", "from assessor.kernels import warm; warm()"]
    subprocess.run(warmed, env=os.environ | {"NUMBA_CACHE_DIR": str(image / "kernels")}, check=True)
    shutil.copy(ROOT / "deploy" / "image" / "start.sh", image)
    for path in [image, *image.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    return image


def start(image: Path, cache: Path, *arguments: str, output: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Start the script as one who may not write to the image, also where the tests run as root.

    Args:
        output: where its standard output goes.
    """
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {
        "PATH": programs,
        "PYTHONUNBUFFERED": "1",
        "NUMBA_CACHE_DIR": str(cache),
        "NUMBA_DEBUG_CACHE": "1",
        "NORMGAUGE_DATABASE_URL": f"sqlite:///{cache.parent}/normgauge.db",
    }
    powerless = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and setpriv is not installed")
        powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command = [*powerless, "sh", str(image / "start.sh"), *arguments]
    return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.PIPE, text=True)


def test_nothing_is_compiled_at_a_start(image: Path, tmp_path: Path) -> None:
    cache = tmp_path / "tmp" / "numba"
    cache.parent.mkdir()
    said = tmp_path / "said"
    # To a file: no one reads a pipe before the start is complete.
    with said.open("w") as stream, start(image, cache, "serve", "--port", "0", output=stream) as server:
        assert server.stderr is not None
        assert any("Application startup complete" in line for line in server.stderr)
        server.terminate()
        server.communicate()
    output = said.read_text()
    assert re.search(rf"data loaded from '{re.escape(str(cache))}", output), output
    assert "saved" not in output
    # It is numba's to write to: another CPU, or another dtype, is compiled there.
    assert all(os.stat(path).st_mode & 0o200 for path in [cache, *cache.rglob("*")])


@pytest.mark.parametrize("options", [["--engine", "serial"], ["--engine", "processes", "--workers", "1"]])
def test_nothing_is_compiled_by_a_step_of_a_pipeline(image: Path, tmp_path: Path, options: list[str]) -> None:
    """Nor by its workers; the data is as much as is worth the kernel."""
    cache = tmp_path / "tmp" / "numba"
    cache.parent.mkdir()
    shard = tmp_path / "x.npy"
    np.save(shard, np.random.default_rng(0).standard_normal((COMPILE_FROM // 64, 64)).astype(np.float32))
    done = start(image, cache, "assess", str(shard), "--batch-size", "32", *options)
    output, errors = done.communicate()
    assert done.returncode == 0, errors
    assert re.search(rf"data loaded from '{re.escape(str(cache))}", output), output
    assert "saved" not in output


def test_the_script_gives_way(image: Path, tmp_path: Path) -> None:
    """To a folder that is there, to other commands, and where nothing can be copied: the command runs all the same."""
    there = tmp_path / "there"
    there.mkdir()
    for cache, arguments, copied in (
        (there, ("serve", "--print-settings"), False),
        (tmp_path / "new", ("--version",), False),
        (tmp_path / "new", ("serve", "--print-settings"), True),
        (image / "none", ("serve", "--print-settings"), False),
    ):
        done = start(image, cache, *arguments)
        output, errors = done.communicate()
        assert (done.returncode, bool(output)) == (0, True), errors
        assert (cache.exists() and any(cache.iterdir())) == copied
        assert ("could not be copied" in errors) == (cache == image / "none")


def test_the_image_has_what_the_script_takes() -> None:
    """Built by the environment's own interpreter, from where it is installed, to where the script looks."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "NUMBA_CACHE_DIR=/opt/normgauge/kernels /opt/normgauge/bin/python -I -c" in dockerfile
    assert "COPY deploy/image/start.sh /opt/normgauge/\n" in dockerfile
    assert dockerfile.index("/opt/normgauge/kernels") < dockerfile.index("COPY --from=build /opt/normgauge ")
    (code,) = re.findall(r'-I -c \\\n    "(.*)"\n', dockerfile)
    compile(code, "Dockerfile", "exec")
    assert "from assessor.kernels import warm" in code
