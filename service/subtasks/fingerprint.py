"""What the last bits of a model depend on beside settings and files: versions and kind of CPU."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from service import __version__

PACKAGES = ("numpy", "numba", "llvmlite", "polars", "safetensors")


def fingerprint() -> dict[str, str]:
    """Versions of what computes, and the instructions that numpy found; one line each."""
    found = {"headrace": __version__, "python": platform.python_version()}
    found["machine"] = platform.machine()
    found |= {name: _version(name) for name in PACKAGES}
    found["cpu"] = _cpu()
    found["blas"] = _blas()
    return found


def digest(found: Mapping[str, str]) -> str:
    """The fingerprint as the journal keeps it for each file (hex)."""
    return hashlib.sha256(json.dumps(dict(found), sort_keys=True).encode()).hexdigest()


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What is not the same, for people."""
    return [
        f"{name} {then.get(name, 'unknown')} -> {now[name]}"
        for name in now
        if then.get(name) != now[name]
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _cpu() -> str:
    """The instruction sets in use: numpy's own list, and the name that compiled kernels are made for."""
    import llvmlite.binding

    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return " ".join([llvmlite.binding.get_host_cpu_name(), *sorted(simd.get("found", []))])


def _blas() -> str:
    built = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{built.get('name', 'unknown')} {built.get('version', '')}".strip()
