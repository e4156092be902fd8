"""Docker: what the tests of deploy/ need of it before they run, and the images that they run on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

STAND_INS = Path(__file__).parent / "stand_ins"
ASKED = "TEST_DEPLOY"
# The image to build on, of those that are here. Without a registry: debootstrap and `docker import`.
BASE = "DEPLOY_BASE"


def docker(*arguments: str, **variables: str) -> str:
    """The output of a docker command, which has to succeed."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def require_engine() -> str:
    """The base image; skips where nobody asked for these tests, or there is no engine or no image."""
    if not os.environ.get(ASKED):
        pytest.skip("takes minutes: make test-deploy")
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine answers")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    base = base_image()
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {base} is not here: docker pull it, or name another in {BASE}")
    return base


def base_image() -> str:
    """The image that the others are built on."""
    return os.environ.get(BASE, "python:3.12-slim")


def build(base: str) -> None:
    """Build the image of deploy/docker. DEPLOY_PIP_CONF and PIP_CERT name a pip.conf and a CA: secrets of the build."""
    secrets = [
        f"--secret=id={name},src={path}"
        for name, path in [
            ("pip_conf", os.environ.get("DEPLOY_PIP_CONF", "")),
            ("ca", os.environ.get("PIP_CERT", "")),
        ]
        if path
    ]
    docker(
        *("build", "--network", "host", "--build-arg", f"BASE={base}", *secrets),
        *("--file", str(PROJECT_DIRECTORY / "deploy/docker/Dockerfile"), "--tag", "taxi-orchestration"),
        str(PROJECT_DIRECTORY),
        DOCKER_BUILDKIT="1",
    )


def stand_in(base: str, name: str) -> str:
    """An image in place of one of a registry's, made of Debian's packages."""
    tag = f"stand-in-{name}"
    docker(
        *("build", "--network", "host", "--build-arg", f"BASE={base}", "--target", name, "--tag", tag, str(STAND_INS)),
        DOCKER_BUILDKIT="1",
    )
    return tag
