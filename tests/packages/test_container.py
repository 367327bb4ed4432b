"""The image: built, and run as a server that a client reaches and whose health check answers."""

import os
import shlex
import shutil
import subprocess

import pytest

from lane.cli import main
from tests.support.processes import lasting_port
from tests.support.system_commands import run

BASE = "localhost/debian-of-the-test"


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    if shutil.which("buildah") is None:
        pytest.skip("needs buildah: apt-get install buildah")
    folder = tmp_path_factory.mktemp("containers")
    environment = {**os.environ, "STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}
    own = ["--root", folder / "root", "--runroot", folder / "run"]

    def call(*words, **how):
        return run("buildah", *own, *words, env=environment, **how)

    call.command = ["buildah", *map(str, own)]
    call.environment = environment
    return call


@pytest.fixture(scope="module")
def image(buildah, debian, sources, tmp_path_factory):
    """The image, on a base that needs no registry."""
    scratch = buildah("from", "scratch").stdout.strip()
    buildah("add", "-q", scratch, debian, "/")
    buildah("commit", "-q", scratch, BASE)
    authorities = os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")
    conf = tmp_path_factory.mktemp("pip") / "pip.conf"
    conf.write_text("[global]\ncert = /etc/authorities-of-the-host.crt\n")
    volumes = (f"{conf}:/etc/pip.conf:ro", f"{authorities}:/etc/authorities-of-the-host.crt:ro")
    options = ["--format", "docker", "--build-arg", f"BASE={BASE}", *(f"-v={volume}" for volume in volumes)]
    buildah("bud", *options, "-t", "lane", "-f", sources / "Containerfile", sources)
    return "lane"


def test_it_serves_without_root_and_says_that_it_is_well(buildah, image):
    container = buildah("from", image).stdout.strip()

    def inside(*words, check=True):
        return buildah("run", container, "--", *words, check=check)

    assert inside("id", "-u").stdout.strip() == "10001"
    assert inside("sh", "-c", "command -v gcc pip", check=False).stdout == ""
    health = buildah("inspect", "--format", "{{index .Docker.Config.Healthcheck.Test 1}}", container).stdout
    assert inside("sh", "-c", health.strip(), check=False).returncode != 0, "there is no server yet"
    port = lasting_port()
    server = subprocess.Popen(
        [*buildah.command, "run", container, "--", "lane", "server", "--listen", f"127.0.0.1:{port}"],
        env=buildah.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stdout.readline().startswith("listening on")
            said = server.stdout.readline().removeprefix("for clients: ")
            link = inside(*shlex.split(said)).stdout.strip()
            assert main(["check", "--server", link]) == 0
            assert inside("sh", "-c", health.strip()).returncode == 0
        finally:
            server.terminate()
