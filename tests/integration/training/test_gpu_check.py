"""The rehearsal of `scripts/gpu_check.py`: every part but the GPU's own tests, on the CPU device, small."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "gpu_check.py"


BROKEN = """
import os, sys, time
sys.path.insert(0, sys.argv[1] if __name__ == "__main__" else os.environ["SCRIPTS"])
import gpu_check
from gpu_check import Part

def unusable():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

gpu_check.plan = lambda check: {
    "hangs": Part(0, 1, lambda: time.sleep(600)),
    "dies": Part(0, 60, lambda: os._exit(7)),
    "leaves the card unusable": Part(0, 60, unusable),
    "ends": Part(0, 60, lambda: os.getpid()),
    "goes on": Part(0, 60, lambda: os.getpid()),
}
if __name__ == "__main__":
    del sys.argv[1]
    gpu_check.main()
"""


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
    rates.append(parts["without Triton, d = 32, 20 negatives, float32"])
    assert len(rates) == 4
    assert all(rate["edges_per_second"] > 0 and rate["kernels"] for rate in rates)
    assert all(rate > 0 for rate in parts["partitions from disk"].values())


def test_without_time_parts_are_left_out_and_said_to_be(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, SCRIPT, "--device", "cpu", "--small", "--seconds", "0", "--json", out]
    subprocess.run(command, capture_output=True, check=True)
    parts = json.loads(out.read_text())["parts"]
    assert all("skipped" in part["result"] for part in parts.values())


def test_a_part_that_hangs_or_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    script, out = tmp_path / "broken.py", tmp_path / "found.json"
    script.write_text(BROKEN)
    environment = {**os.environ, "SCRIPTS": str(SCRIPT.parent)}
    command = [sys.executable, script, SCRIPT.parent, "--device", "cpu", "--small", "--json", out]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    parts = {name: part["result"] for name, part in json.loads(out.read_text())["parts"].items()}
    assert parts["hangs"] == {"failed": "no answer within 1 s"}
    assert parts["dies"] == {"failed": "its process ended with status 7"}
    assert "illegal memory access" in parts["leaves the card unusable"]["failed"]
    assert parts["ends"] == parts["goes on"], "one process does what does not fail"


def test_the_libraries_it_collects_are_enough(tmp_path: Path) -> None:
    """An interpreter without site-packages, as on a bare machine, imports the trainer from the folder."""
    subprocess.run([sys.executable, SCRIPT, "--collect", tmp_path], check=True)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 64 * 2**20
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import training.train, training.chunks, pytest"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
