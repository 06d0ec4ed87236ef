"""`make images`: build the images `stage` and `airflow`, and write a CycloneDX SBOM beside each.

    make images                      # for the CPU: warmstart-stage:cpu and warmstart-airflow:latest
    make images VARIANT=cuda         # warmstart-stage:cuda, with torch for NVIDIA GPUs

| variable | meaning |
|---|---|
| `WARMSTART_IMAGE_BASE` | the base image; name it with its digest where builds must be repeatable |
| `WARMSTART_IMAGE_TORCH` | another build of torch than the variant's: `cu128` (PyTorch's own index) for older drivers |
| `WARMSTART_IMAGE_WHEELS` | an image whose root is a wheel house |
| `WARMSTART_IMAGE_CA` | a CA bundle for the downloads; it is not left in the image |
| `WARMSTART_IMAGE_NETWORK` | the builds' network, where the engine has no bridge: `host` |
| `DOCKER` | the `docker` command |

The SBOMs lie in `$WARMSTART_HOME/images/`.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.settings import CHECKOUT, settings

VARIANTS = ("cpu", "cuda")
TAGS = {"stage": "warmstart-stage:{variant}", "airflow": "warmstart-airflow:latest"}
# Metadata is all that an SBOM is made of; the packages themselves stay where they are.
METADATA = """
import io, sys, tarfile, pathlib
out = tarfile.open(fileobj=sys.stdout.buffer, mode="w|")
for folder in pathlib.Path("/opt/venv/lib").glob("python3*/site-packages/*.dist-info"):
    for file in folder.rglob("*"):
        if file.is_file():
            out.add(file, f"{folder.name}/{file.relative_to(folder)}", recursive=False)
out.close()
"""
DEBIAN = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\\n"]


def main() -> None:
    """Build, then say what was built."""
    parser = argparse.ArgumentParser(description="Build Warmstart's images and their SBOMs.")
    parser.add_argument("--variant", choices=VARIANTS, default="cpu")
    parser.add_argument("--only", choices=sorted(TAGS), help="build this one alone")
    asked = parser.parse_args()
    for target in [asked.only] if asked.only else TAGS:
        tag = TAGS[target].format(variant=asked.variant)
        build(target, tag, asked.variant)
        sbom = write_sbom(tag)
        print(f"{tag}  {docker('image', 'inspect', '--format', '{{.Id}}', tag).decode().strip()}\n  {sbom}", flush=True)


def build(target: str, tag: str, variant: str) -> None:
    """One image; unchanged layers come from the engine's cache."""
    arguments = {"COMMIT": commit(), "LOCK": lock(), "TORCH": variant}
    for name in ("BASE", "WHEELS", "TORCH"):
        if value := os.environ.get(f"WARMSTART_IMAGE_{name}"):
            arguments[name] = value
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    if bundle := os.environ.get("WARMSTART_IMAGE_CA"):
        words += ["--secret", f"id=ca,src={bundle}"]
    if network := os.environ.get("WARMSTART_IMAGE_NETWORK"):
        words += ["--network", network]
    command = [program(), "build", "-f", "docker/Dockerfile", "--target", target, "-t", tag, *words, "."]
    code = subprocess.call(command, cwd=CHECKOUT, env=os.environ | {"DOCKER_BUILDKIT": "1"})
    if code:
        sys.exit(f"{tag} was not built: its last words stand above.")


def write_sbom(tag: str) -> Path:
    """What is in an image, Python and Debian packages, as CycloneDX JSON; returns the file."""
    with tempfile.TemporaryDirectory(prefix="warmstart-sbom-") as scratch:
        venv = Path(scratch) / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        (packages,) = venv.glob("lib/python3*/site-packages")
        files = inside(tag, "python", "-c", METADATA)
        with tarfile.open(fileobj=io.BytesIO(files)) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
            tar.extractall(packages)
        command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", str(venv)]
        document = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    document["components"] += [debian(line) for line in inside(tag, *DEBIAN).decode().splitlines()]
    document["metadata"]["component"] = {"type": "container", "bom-ref": tag, "name": tag, "version": commit()}
    path = settings().home / "images" / f"{tag.replace(':', '-')}.cdx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path


def debian(line: str) -> dict[str, Any]:
    """One line of dpkg-query as a component."""
    name, version, architecture = line.split()
    purl = f"pkg:deb/debian/{name}@{version}?arch={architecture}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def inside(tag: str, *command: str) -> bytes:
    """What a command says that runs in an image, without network."""
    return docker("run", "--rm", "--network", "none", "--entrypoint", command[0], tag, *command[1:])


def docker(*words: str) -> bytes:
    """Ask the engine."""
    return subprocess.run([program(), *words], check=True, stdout=subprocess.PIPE).stdout


def program() -> str:
    """The docker command."""
    return os.environ.get("DOCKER", "docker")


def commit() -> str:
    """The checkout's commit; `+` when files differ from it."""
    git = ["git", "-C", str(CHECKOUT)]
    head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True).strip()
    return head + ("+" if subprocess.check_output([*git, "status", "--porcelain", "--untracked-files=no"]) else "")


def lock() -> str:
    """sha256 of the stages' requirement file, as in every manifest."""
    return hashlib.sha256((CHECKOUT / "requirements" / "stages.txt").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
