"""The generated modules are what openapi.json says today, and hold the service's own words."""

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.problems import STATUS
from service.routes import ROUTES
from twhin_client import errors, operations, problems, types
from twhin_client.operation import Operation, problem_of
from twhin_command import PACKAGES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate() -> Any:
    """The generator, as a module."""
    spec = importlib.util.spec_from_file_location("client_generate", ROOT / "client" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_files_are_those_of_the_document(generate: Any) -> None:
    stale = [path.name for path, text in generate.generated().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `python client/generate.py` and look at the difference"


def _changed(copy: Path, change: Callable[[Any], None]) -> "subprocess.CompletedProcess[str]":
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    change(document)
    (copy / "openapi.json").write_text(json.dumps(document))
    command = [sys.executable, "client/generate.py", "--check"]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, timeout=60)


def test_a_document_that_changed_and_was_not_generated_from_again_is_found(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "client", tmp_path / "client", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def change(document: Any) -> None:
        schemas = document["components"]["schemas"]
        schemas["RecommendBody"]["properties"]["novelty"] = {"type": "number", "default": 0.0}
        schemas["ProblemDocument"]["x-codes"]["teapot"] = 418

    done = _changed(tmp_path, change)
    assert done.returncode == 1
    assert all(name in done.stderr for name in ("types.py", "operations.py", "problems.py", "twhin.d.ts"))


def test_every_route_of_the_service_has_an_operation_in_both_clients() -> None:
    known = {(one.method, one.head, *one.tail) for one in vars(operations).values() if isinstance(one, Operation)}
    for route in ROUTES:
        label = route.label if f"/v1{route.label}" not in {one.label for one in ROUTES} else f"/v1{route.label}"
        head, *rest = label.split("{")
        assert (route.method, head, *(part.rpartition("}")[2] for part in rest)) in known, label
    methods = {one.name for one in vars(operations).values() if isinstance(one, Operation)}
    assert all(
        hasattr(kind, name) for kind in (operations.SyncOperations, operations.AsyncOperations) for name in methods
    )


def test_every_code_of_the_service_is_an_exception_of_its_status() -> None:
    assert set(problems.BY_CODE) == set(STATUS)
    for code, status in STATUS.items():
        body = json.dumps({"code": code, "detail": "why", "request_id": "r"}).encode()
        error = problem_of(status, {}, body)
        assert (type(error), error.code, error.status) == (problems.BY_CODE[code], code, status)
        assert isinstance(error, errors.RequestRefused if status < 500 else errors.ServiceFailed)
        assert isinstance(error, errors.Unavailable) == (status == 503)


def test_the_first_release_s_fields_are_all_still_answered() -> None:
    """What `baseline.json` has may never become optional: clients of the first release rely on it."""
    baseline = json.loads((ROOT / "client" / "baseline.json").read_text())
    for name, fields in baseline.items():
        struct = getattr(types, name)
        required = {field.encode_name for field in msgspec.structs.fields(struct) if field.required}
        assert set(fields) <= required, name


def test_a_field_that_came_later_may_be_missing(generate: Any) -> None:
    document = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))
    mode = document["components"]["schemas"]["Mode"]
    mode["properties"]["age"] = {"type": "number"}
    mode["required"].append("age")
    baseline = json.loads((ROOT / "client" / "baseline.json").read_text())
    text = generate.types(document, baseline)
    assert "    age: float | msgspec.UnsetType = msgspec.UNSET" in text
    assert "  age?: number;" in generate.typescript(document, baseline)


def test_the_client_is_installed_with_few_requirements_and_its_types() -> None:
    distribution = importlib.metadata.distribution("twhin-client")
    assert [text.partition(">")[0] for text in distribution.requires or () if "extra" not in text] == [
        "httpx",
        "msgspec",
        "numpy",
    ]
    assert (ROOT / "client" / "twhin_client" / "py.typed").exists()


def test_the_client_imports_none_of_the_product_and_no_other_library() -> None:
    code = "import sys, twhin_client; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT / "client")},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {*PACKAGES, "torch", "pyarrow", "pandas", "polars", "pydantic", "orjson"}
