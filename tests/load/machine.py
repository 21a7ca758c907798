"""The circumstances of a measurement: hardware, date, commit, versions."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from scripts.local import programs
from scripts.local.config import REPOSITORY
from tests.conftest import SHIPPED_MODEL

PACKAGES = ("litserve", "onnxruntime", "fastapi", "uvicorn", "celery", "flower")
CPU_FLAGS = (
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
)  # instructions that decide how fast a network runs


def describe() -> dict[str, Any]:
    """Values for JSON. `load_average` covers the last minute and shows whether the machine was busy."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=True),
        "cpu_flags": [flag for flag in CPU_FLAGS if re.search(rf"\b{flag}\b", cpu_info())],
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
        "commit": git("rev-parse", "--short", "HEAD"),
        "changed_files": len(git("status", "--porcelain").splitlines()),
        "model": SHIPPED_MODEL.name,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            **servers(),
        },
    }


def servers() -> dict[str, str]:
    """The servers' versions. nginx writes its version to standard error; RabbitMQ's is in a folder's name."""
    commands = {
        "postgresql": [programs.find_program("postgres"), "--version"],
        "nginx": [programs.find_program("nginx"), "-v"],
        "rabbitmq": ["sh", "-c", "ls -d /usr/lib/rabbitmq/lib/rabbitmq_server-*"],
    }
    answers = {
        name: subprocess.run(command, capture_output=True, text=True, check=False)
        for name, command in commands.items()
    }
    found = {
        name: re.search(r"\d+(\.\d+)+", answer.stdout + answer.stderr) for name, answer in answers.items()
    }
    return {name: number[0] for name, number in found.items() if number}


def cpu_name() -> str:
    named = re.search(r"^model name\s*: (.+)$", cpu_info(), re.MULTILINE)
    return named[1] if named else platform.processor()


def cpu_info() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text() if file.exists() else ""


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
