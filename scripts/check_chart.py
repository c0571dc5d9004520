"""Lints the Helm chart, renders it with each file of `deploy/helm/values` and validates what comes out.

Helm's own library renders; the objects are held against Kubernetes' schemas, JobSets and SparkApplications against the
models that Kubeflow publishes. Those of other extensions, such as Istio's, have none here and are only parsed.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python.chart as helm
import kubernetes_validate
import yaml
from helm_python.errors import HelmError
from kubeflow_spark_api.models import SparkV1beta2SparkApplication
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet
from pydantic import ValidationError

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "twhin"
VALUES = sorted((ROOT / "deploy" / "helm" / "values").glob("*.yaml"))
EXTENSIONS = ("networking.istio.io/", "monitoring.coreos.com/")
MODELS: dict[str, Any] = {"JobSet": JobsetV1alpha2JobSet, "SparkApplication": SparkV1beta2SparkApplication}
KUBERNETES = "1.29"


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The Kubernetes objects of the chart with these values. Raises HelmError where the chart refuses them."""
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="twhin", namespace="models")
    return [
        one
        for name, text in sorted(texts.items())
        if name.endswith(".yaml")
        for one in yaml.safe_load_all(text)
        if one is not None
    ]


def jobs_of_sets(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs that JobSets would make."""
    return [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": each["name"]}, **each["template"]}
        for one in objects
        if one["kind"] == "JobSet"
        for each in one["spec"]["replicatedJobs"]
    ]


def model_faults(given: dict[str, Any]) -> Iterator[str]:
    """Where an object is not of its kind's model: a field that is missing or of another type, or that it has not."""
    where = f"{given['kind']} {given['metadata']['name']}"
    try:
        known = MODELS[given["kind"]].from_dict(given).to_dict()
    except ValidationError as error:
        yield f"{where}: {error}"
        return
    yield from (f"{where}: there is no field {path}" for path in lost(given, known))
    # Of what is required and missing the model makes something up.
    yield from (f"{where}: the field {path} is missing" for path in lost(known, given))


def lost(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """The fields of `given` that `known` lacks, or has in another form."""
    containers = dict | list
    if isinstance(given, containers) != isinstance(known, containers):
        yield path.rstrip(".")
    elif isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from lost(value, known[key], f"{path}{key}.")
    elif isinstance(given, list) and isinstance(known, list):
        for place, (value, other) in enumerate(zip(given, known, strict=False)):
            yield from lost(value, other, f"{path}{place}.")


def faults(values_file: Path) -> Iterator[str]:
    """What Helm or Kubernetes would not take of the chart with this file of values."""
    values = yaml.safe_load(values_file.read_text(encoding="utf-8"))
    report = helm.lint(CHART, values, strict=True, kube_version=f"v{KUBERNETES}.0")
    yield from (str(message) for message in report["messages"] if message["severity"] > 1)
    yield from report["errors"]
    try:
        objects = render(values)
    except HelmError as error:
        yield str(error)
        return
    for one in [*objects, *jobs_of_sets(objects)]:
        if one["apiVersion"].startswith(EXTENSIONS):
            continue
        if one["kind"] in MODELS:
            yield from model_faults(one)
            continue
        try:
            kubernetes_validate.validate(one, KUBERNETES, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            yield f"{one['kind']} {one['metadata']['name']}: {error}"


def main() -> int:
    """0 where everything is sound."""
    found = [f"{file.name}: {fault}" for file in VALUES for fault in faults(file)]
    print("\n".join(found) or f"The chart is sound with {', '.join(file.name for file in VALUES)}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
