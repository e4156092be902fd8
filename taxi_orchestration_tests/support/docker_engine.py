"""The Docker engine and the images that the tests of deploy/ need."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

STAND_INS = Path(__file__).parent / "stand_ins"
ENABLING_VARIABLE = "TEST_DEPLOY"
# Names the base image, which must be local. Without a registry, create it with debootstrap and `docker import`.
BASE_VARIABLE = "DEPLOY_BASE"


def docker(*arguments: str, **variables: str) -> str:
    """Run a docker command, and return its output. Fails if the command fails."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, env={**os.environ, **variables}, check=False
    )
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def require_engine() -> str:
    """Return the base image. Skips the test if TEST_DEPLOY is not set, or if the engine or the image is missing."""
    if not os.environ.get(ENABLING_VARIABLE):
        pytest.skip("takes minutes: make test-deploy")
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        pytest.skip("no Docker engine is running")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    base = base_image()
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True, check=False).returncode:
        pytest.skip(f"the image {base} is missing: docker pull it, or name another one in {BASE_VARIABLE}")
    return base


def base_image() -> str:
    """Return the name of the image that the other images are built on."""
    return os.environ.get(BASE_VARIABLE, "python:3.12-slim")


def build(base: str) -> None:
    """Build the image of deploy/docker.

    DEPLOY_PIP_CONF and PIP_CERT name a pip.conf and a CA file, which are secrets of the build.
    """
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
    """Build an image from Debian's packages that replaces an image of a registry, and return its tag."""
    tag = f"stand-in-{name}"
    docker(
        *("build", "--network", "host", "--build-arg", f"BASE={base}", "--target", name, "--tag", tag, str(STAND_INS)),
        DOCKER_BUILDKIT="1",
    )
    return tag
