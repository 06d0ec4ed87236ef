"""`python requirements/install.py`: make `.venv` and `.venv-airflow`, or do nothing when both are as they should be.

Run by `make` before everything else; needs Python 3.11 and nothing besides. It installs with `uv`: the one on PATH, or
one that pip puts into a little environment of its own (`.uv/`).

* An environment is finished when its stamp says which requirement files it was made from. The stamp is written last:
  an interrupted install starts over, changed requirements are installed again.
* Two of these at once wait for each other.
* What pip is told by its environment variables (a wheel house, an index), uv is told too.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = {
    Path(".venv"): ["requirements/stages.txt", "requirements/dev.txt"],
    Path(".venv-airflow"): ["requirements/airflow.txt"],
}
WITH_OURSELVES = Path(".venv")  # where `warmstart` itself is installed, in place
OLDEST_UV = (0, 8)  # earlier ones know no `--torch-backend=auto` or no `venv --clear`
STAMP = "warmstart-installed.json"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu/"
FROM_PIP = {  # pip's variable: (uv's, the separator of a list)
    "PIP_FIND_LINKS": ("UV_FIND_LINKS", ","),
    "PIP_INDEX_URL": ("UV_DEFAULT_INDEX", " "),
    "PIP_EXTRA_INDEX_URL": ("UV_INDEX", " "),
    "PIP_NO_INDEX": ("UV_NO_INDEX", " "),
    "PIP_CERT": ("SSL_CERT_FILE", " "),
}


def main() -> None:
    """Bring both environments up to date."""
    os.chdir(CHECKOUT)
    if all(is_finished(venv, files) for venv, files in ENVIRONMENTS.items()):
        return
    Path(".uv").mkdir(exist_ok=True)
    with Path(".uv/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        environment = uv_environment(os.environ)
        uv = find_uv()
        for venv, files in ENVIRONMENTS.items():
            if not is_finished(venv, files):  # whoever held the lock may have done it
                install(uv, venv, files, environment)


def find_uv() -> str:
    """A `uv` that is new enough: on PATH, or installed by pip into `.uv/`."""
    own = CHECKOUT / ".uv" / "bin" / "uv"
    for candidate in (shutil.which("uv"), str(own)):
        if candidate and uv_version(candidate) >= OLDEST_UV:
            return candidate
    say("installing uv into .uv/")
    if subprocess.call([sys.executable, "-m", "venv", ".uv"]) != 0:
        sys.exit(f"{sys.executable} cannot make environments: install its venv module (Debian: python3-venv), or uv.")
    pip = [".uv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"]
    if subprocess.call(pip) != 0:
        sys.exit("pip could not install uv (see above): check the network, or install uv by hand.")
    return str(own)


def uv_version(uv: str) -> tuple[int, ...]:
    """(major, minor) of a uv, or () when it does not run."""
    try:
        words = subprocess.check_output([uv, "--version"], text=True).split()
        return tuple(int(part) for part in words[1].split(".")[:2])
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return ()


def uv_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv: ours, with what pip's variables say where uv's own say nothing."""
    environment = {name: value for name, value in inherited.items() if name != "VIRTUAL_ENV"}
    for pip_name, (uv_name, separator) in FROM_PIP.items():
        if words := inherited.get(pip_name, "").split():
            environment.setdefault(uv_name, separator.join(words))
    if environment.get("UV_INDEX"):
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip treats its indexes
    return environment


def install(uv: str, venv: Path, files: Sequence[str], environment: Mapping[str, str]) -> None:
    """Fill one environment and stamp it."""
    if (venv / STAMP).exists():
        (venv / STAMP).unlink()
        say(f"updating {venv}: its requirements have changed")
    else:
        say(f"making {venv}")
        run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)], environment)
    pip_install = [uv, "pip", "install", "--python", f"{venv}/bin/python"]
    requirements = [word for path in files for word in ("-r", path)]
    # Compiled now: with PYTHONDONTWRITEBYTECODE set, every process would otherwise compile for itself.
    run([*pip_install, "--compile-bytecode", *torch_backend(files, environment), *requirements], environment)
    if venv == WITH_OURSELVES:
        run([*pip_install, "--quiet", "--no-deps", "--no-build-isolation", "-e", "."], environment)
    unfinished = venv / f"{STAMP}.unfinished"
    unfinished.write_text(json.dumps(fingerprint(venv, files)))
    unfinished.replace(venv / STAMP)


def torch_backend(files: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """`--torch-backend=auto` picks the build for this machine's GPU, or the small CPU one.

    Not where a wheel house already has torch: uv would look past it. Not where PyTorch's own index is out of reach:
    then the one from the ordinary index is taken, which on Linux brings CUDA along.
    """
    if "requirements/stages.txt" not in files or environment.keys() & {"UV_TORCH_BACKEND", "UV_NO_INDEX"}:
        return []
    for place in filter(None, environment.get("UV_FIND_LINKS", "").split(",")):
        if any(Path(place.removeprefix("file://")).glob("torch-*.whl")):
            return []
    try:
        urllib.request.urlopen(TORCH_INDEX, timeout=10).close()
    except OSError as error:
        say(f"{TORCH_INDEX} cannot be reached ({error}): taking torch from the ordinary index")
        return []
    return ["--torch-backend=auto"]


def is_finished(venv: Path, files: Sequence[str]) -> bool:
    """Whether an environment was made completely from the requirement files as they are now."""
    try:
        stamp = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp == fingerprint(venv, files)) and (venv / "bin" / "python").exists()


def fingerprint(venv: Path, files: Sequence[str]) -> dict[str, str]:
    """What an environment depends on: its requirement files, and where it stands (its scripts name their path)."""
    digest = hashlib.sha256()
    for path in (*files, "pyproject.toml") if venv == WITH_OURSELVES else files:
        digest.update(Path(path).read_bytes())
    return {"requirements": digest.hexdigest(), "checkout": str(CHECKOUT)}


def run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a step; when it fails we end with its exit code, its own words standing above."""
    code = subprocess.call(command, env=environment)
    if code != 0:
        say(f"failed: {' '.join(command)}")
        sys.exit(code)


def say(text: str) -> None:
    """One line to the person who waits."""
    print(f"· {text}", flush=True)


if __name__ == "__main__":
    main()
