"""The first training installs PyTorch if it is missing, and reports its progress."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.local.config import REPOSITORY
from training import install
from training.errors import InstallError


def write_installer(folder: Path, script: str) -> str:
    file = folder / "installer"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def test_the_progress_of_the_installer_becomes_the_phase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "Downloading torch (1.0GiB)",
        "Downloading triton (200.0MiB)",
        " Downloaded triton",
        "Prepared 2 packages in 3s",
        " Downloaded torch",
    ]
    script = "\n".join(['test "$1" = torch || exit 1', *(f"echo '{line}' >&2" for line in lines)])
    install.install(write_installer(tmp_path, script))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"phase": "installing PyTorch"},
        {"phase": "installing PyTorch: 210 of 1,283 MB"},
        {"phase": "installing PyTorch: 1,283 of 1,283 MB"},
    ]


def test_the_last_line_of_a_failed_installer_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(InstallError, match=r"could not be installed: no space left\. Check the network"):
        install.install(write_installer(tmp_path, "echo resolving; echo 'no space left'; exit 1"))


def test_packages_are_missing_if_one_of_them_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not install.is_missing()
    monkeypatch.setattr(install, "NEEDED", ("torch", "no-such-package"))
    assert install.is_missing()


def test_an_incomplete_package_counts_as_missing_and_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "venv/lib/python3/site-packages"
    # uv writes INSTALLER after the package's own files, so torch is incomplete here and numpy is complete.
    for name, file in (("torch-2.15.0", "METADATA"), ("numpy-2.4.6", "INSTALLER")):
        (packages / f"{name}.dist-info").mkdir(parents=True)
        (packages / f"{name}.dist-info" / file).write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(packages)])
        assert install.is_missing()
    uv = tmp_path / "uv"  # a stand-in that records the arguments of `uv sync`
    uv.write_text(f'#!/bin/sh\n[ "$1" != sync ] || echo "$@" >{tmp_path}/asked\n')
    uv.chmod(0o755)
    search_path = f"{tmp_path}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": search_path, "UV_PROJECT_ENVIRONMENT": str(tmp_path / "venv")}
    subprocess.run([REPOSITORY / "scripts/bootstrap", "torch"], env=environment, check=True)
    assert [path.name for path in packages.iterdir()] == ["numpy-2.4.6.dist-info"]
    assert "--quiet" not in (tmp_path / "asked").read_text()  # the progress is shown


def test_a_failed_installation_is_reported_with_a_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "NEEDED", ("no-such-package",))
    monkeypatch.setattr("sys.argv", ["install", write_installer(tmp_path, "exit 1")])
    assert install.main() == 1
    phase, error = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert phase == {"phase": "installing PyTorch"}
    assert error["error"]["title"] == "PyTorch is missing"
    assert "the installer wrote nothing" in error["error"]["detail"]
