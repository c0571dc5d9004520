"""Lints the Helm chart, renders it with each file of `deploy/helm/values` and validates what comes out.

Helm's own library renders; the objects are held against Kubernetes' schemas (those of extensions, such as Istio's, have
none here and are only parsed, but for the jobs of a JobSet).
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python.chart as helm
import kubernetes_validate
import yaml
from helm_python.errors import HelmError

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "helm" / "twhin"
VALUES = sorted((ROOT / "deploy" / "helm" / "values").glob("*.yaml"))
EXTENSIONS = ("networking.istio.io/", "monitoring.coreos.com/", "jobset.x-k8s.io/")
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
