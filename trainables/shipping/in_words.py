"""Says in a line what a shipped model costs. Standard library only."""

from collections.abc import Mapping
from typing import Any


def costs_in_words(shipped: Mapping[str, Any]) -> str:
    """Return what a shipped model takes beside the dense one: every file's bytes, and time."""
    sizes, latency, files = shipped["sizes"], shipped["latency"], shipped["files"]
    dense = {
        "model.onnx": sizes.get("onnx_bytes_dense"),
        "weights.safetensors": sizes["bytes_dense"],
    }
    said = [
        f"{name} {files[name] / whole:.3f} of the dense network's bytes"
        for name, whole in dense.items()
        if name in files and whole
    ]
    threads = f"{latency['threads']} thread{'' if latency['threads'] == 1 else 's'}"
    return (
        f"{', '.join(said)}; time {latency['fraction']:.3f} of the dense network's "
        f"({latency['shipped_ms']:.3g} ms, {latency['runtime']}, {latency['device']}, {threads})"
    )
