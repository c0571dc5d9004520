"""The rehearsal of `scripts/gpu_check.py`: every part but the GPU's own tests, on the CPU device, small."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "gpu_check.py"


def test_every_part_runs_and_is_written_down(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--device", "cpu", "--small", "--json", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    parts = {name: part["result"] for name, part in json.loads(out.read_text())["parts"].items()}
    assert not [name for name, result in parts.items() if "failed" in result or "skipped" in result]
    assert parts["loss after 200 updates as on the CPU"]["right"]
    assert parts["stopped and resumed"]["right"]
    rates = [result for name, result in parts.items() if name.startswith("d = ")]
    assert len(rates) == 3
    assert all(rate["edges_per_second"] > 0 and rate["kernels"] for rate in rates)
    assert all(rate > 0 for rate in parts["partitions from disk"].values())


def test_without_time_parts_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, SCRIPT, "--device", "cpu", "--small", "--seconds", "0", "--json", out]
    subprocess.run(command, capture_output=True, check=True)
    parts = json.loads(out.read_text())["parts"]
    assert all("skipped" in part["result"] for part in parts.values())


def test_the_libraries_it_collects_are_enough(tmp_path: Path) -> None:
    """An interpreter without site-packages, as on a bare machine, imports the trainer from the folder."""
    subprocess.run([sys.executable, SCRIPT, "--collect", tmp_path], check=True)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 64 * 2**20
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import training.train, training.chunks, pytest"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
