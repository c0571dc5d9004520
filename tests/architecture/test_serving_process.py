"""The serving process stays small: what `service.main` must never load."""

import subprocess
import sys

HEAVY = ("torch", "pandas", "pyarrow", "polars", "scipy", "matplotlib", "training", "index.builder", "evaluation")


def test_the_service_loads_no_training_stack() -> None:
    program = f"import sys, service.main; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_the_command_starts_without_its_parts() -> None:
    program = (
        "import sys, cli.main; print([name for name in ('torch', 'faiss', 'numpy', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
