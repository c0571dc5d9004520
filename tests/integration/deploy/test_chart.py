"""The Helm chart: what it refuses, what it gives away, and that its nightly job does what it says."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings
from service.supervisor import GRACE_SECONDS
from service.worker import CLOSING_SECONDS
from tests.support.object_store import BUCKET, S3Server

pytest.importorskip("helm_python", reason="Helm's library: `make test` installs it (group `deploy`)")

from helm_python.errors import HelmError
from torch.distributed.run import get_args_parser

from scripts.check_chart import CHART, ROOT, VALUES, faults, jobs_of_sets, model_faults, render

Objects = dict[str, Any]


def values(name: str, **more: Any) -> Objects:
    found: Objects = yaml.safe_load((ROOT / "deploy" / "helm" / "values" / f"{name}.yaml").read_text())
    return {**found, **more}


def by_kind(given: Objects) -> Objects:
    return {one["kind"]: one for one in render(given)}


@pytest.fixture(scope="module")
def production() -> Objects:
    return by_kind(values("production"))


def pod(objects: Objects) -> Objects:
    found: Objects = objects["Deployment"]["spec"]["template"]["spec"]
    return found


def container(objects: Objects) -> Objects:
    [found] = pod(objects)["containers"]
    return dict(found)


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.stem)
def test_helm_and_kubernetes_take_the_chart(file: Path) -> None:
    assert list(faults(file)) == []


def test_the_check_finds_what_kubernetes_would_not_take(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text('store: {url: "s3://a/b"}\nresources: {limits: {memory: 4Gi}, memory: 1Gi}\n')
    assert any("Deployment" in fault for fault in faults(broken))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "store.url is empty"),
        ({"store": {"url": "/models"}}, "store/url"),
        (values("replicas", redis={"secret": ""}), "more than one replica without redis.secret"),
        (values("production", redis={"secret": ""}), "more than one replica without redis.secret"),
        (values("one", nightly={"enabled": True}), "nightly.graph is empty"),
        (
            values("production", nightly={"enabled": True, "graph": "-", "spark": {"master": "m"}}),
            "spark.claim is empty",
        ),
        (values("one", preparing={"enabled": True, "graph": "-"}), "preparing.out is empty"),
        (values("one", preparing={"enabled": True, "graph": "-", "out": "s3://a/b", "image": "i"}), "preparing.claim"),
        (values("one", training={"enabled": True}), "training.graph is empty"),
        (values("training", training={"enabled": True, "graph": "-", "graphUrl": "s3://a/b"}), "training.graph"),
        (values("one", training={"enabled": True, "graph": "-"}), "training.claim is empty"),
        (values("one", training={"enabled": True, "machines": 1}), "machines"),
        (values("one", replica=3), "replica"),
        (values("one", settings={"twhin_workers": "2"}), "twhin_workers"),
    ],
)
def test_what_cannot_work_is_refused_with_a_word(given: Objects, said: str) -> None:
    with pytest.raises(HelmError) as error:
        render(given)
    assert said in str(error.value)


def test_the_release_is_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (release, release)


def test_one_replica_keeps_its_engagements_on_a_volume_that_outlives_it() -> None:
    objects = by_kind(values("one"))
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    [claim] = [one["persistentVolumeClaim"] for one in pod(objects)["volumes"] if "persistentVolumeClaim" in one]
    assert claim["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert {"PodDisruptionBudget", "HorizontalPodAutoscaler", "CronJob"}.isdisjoint(objects)


def test_replicas_share_their_engagements_or_do_not_start(production: Objects) -> None:
    made = container(production)
    environment = {one["name"]: one for one in made["env"]}
    url = environment["TWHIN_REDIS_URL"]["valueFrom"]["secretKeyRef"]
    assert url == {"name": "twhin-redis", "key": "TWHIN_REDIS_URL", "optional": False}
    read_only = {mount["mountPath"] for mount in made["volumeMounts"] if mount.get("readOnly")}
    state = Path(environment["TWHIN_STATE"]["value"])
    assert f"/{state.parts[1]}" in read_only, "with an empty URL there must be no file either"


def test_the_service_sees_no_key_of_the_store_and_the_puller_none_of_the_service() -> None:
    objects = by_kind(values("replicas"))
    [puller] = pod(objects)["initContainers"]
    assert puller["restartPolicy"] == "Always"
    assert puller["envFrom"] == [{"secretRef": {"name": "twhin-store"}}]
    assert "twhin-store" not in json.dumps(container(objects))
    assert "twhin-keys" not in json.dumps(puller)
    assert "env" not in puller


def test_it_gives_away_no_more_than_is_needed(production: Objects) -> None:
    template = production["Deployment"]["spec"]["template"]
    labels, policy = template["metadata"]["labels"], production["NetworkPolicy"]["spec"]
    assert template["spec"]["automountServiceAccountToken"] is False
    assert template["spec"]["securityContext"]["runAsNonRoot"]
    for one in [*template["spec"]["initContainers"], *template["spec"]["containers"]]:
        assert one["securityContext"]["readOnlyRootFilesystem"]
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule.get("from") for rule in policy["ingress"])
    assert all(rule.get("to") for rule in policy["egress"])
    for selector in (
        policy["podSelector"],
        production["PodDisruptionBudget"]["spec"]["selector"],
        production["Deployment"]["spec"]["selector"],
    ):
        assert selector["matchLabels"].items() <= labels.items()
    nightly = production["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert not production["Service"]["spec"]["selector"].items() <= nightly.items()


def test_probes_and_patience_are_the_services(production: Objects) -> None:
    made = container(production)
    probes = {made[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"/startupz", "/readyz", "/livez"}
    environment = {one["name"]: one.get("value") for one in made["env"]}
    after_draining = Settings().shutdown_seconds + CLOSING_SECONDS + GRACE_SECONDS
    assert pod(production)["terminationGracePeriodSeconds"] > (
        float(environment["TWHIN_DRAIN_SECONDS"]) + after_draining
    )
    longer = by_kind(values("one", settings={"TWHIN_DRAIN_SECONDS": "60"}))
    assert pod(longer)["terminationGracePeriodSeconds"] > 60 + after_draining


def test_the_alerts_are_those_of_prometheus(production: Objects) -> None:
    written = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    assert production["PrometheusRule"]["spec"] == written


def test_the_machines_of_a_training_begin_with_the_commands_of_the_page() -> None:
    """Their words for torchrun and for `twhin train` are parsed; who is not the first has nothing to build."""
    objects = by_kind(values("training"))
    [job] = jobs_of_sets(list(objects.values()))
    [trainer] = job["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one.get("value") for one in trainer["env"]}
    [line] = [line for line in trainer["command"][-1].replace("\\\n", " ").splitlines() if line.startswith("torchrun")]
    words = [environment.get(word.removeprefix("$"), word) or "3" for word in shlex.split(line)[1:]]
    given = get_args_parser().parse_args(words)
    assert (given.nnodes, given.node_rank, given.max_restarts) == ("4", 3, 0)
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 4
    assert (
        given.master_addr
        == f"{objects['JobSet']['metadata']['name']}-trainer-0-0.{objects['JobSet']['metadata']['name']}"
    )
    assert [given.training_script, *given.training_script_args][:3] == ["twhin", "train", "/graph/graph.toml"]
    first = trainer["command"][-1].index("|| exit 0")
    assert trainer["command"][-1].index("torchrun") < first < trainer["command"][-1].index("twhin build")


def test_the_nightly_job_may_prepare_on_spark(production: Objects) -> None:
    """Only where a master is named; what it shares with Spark's workers is a claim of its own."""
    given = values("production")
    given["nightly"] = {**given["nightly"], "spark": {"master": "spark://spark:7077", "claim": "spark-shared"}}
    objects = by_kind(given)
    template = objects["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [job] = template["containers"]
    assert {"name": "SPARK_MASTER", "value": "spark://spark:7077"} in job["env"]
    lines = [line.strip() for line in job["command"][-1].splitlines()]
    out = "/shared/twhin-graph"
    prepared = lines.index(f'twhin prepare "$GRAPH" --out {out} --engine spark --master "$SPARK_MASTER"')
    assert lines[prepared + 1] == f"GRAPH={out}"
    assert lines[prepared + 3].startswith('twhin train "$GRAPH" --run "$run"')
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "spark-shared"}} in template["volumes"]
    assert "prepare" not in json.dumps(production["CronJob"])


def test_an_installed_claim_is_the_same_with_spark_and_without(production: Objects) -> None:
    """Kubernetes refuses to change one, and with it the whole upgrade."""
    given = values("production")
    given["nightly"] = {**given["nightly"], "spark": {"master": "spark://spark:7077", "claim": "spark-shared"}}
    assert by_kind(given)["PersistentVolumeClaim"] == production["PersistentVolumeClaim"]


def test_spark_prepares_by_its_operator_what_the_machines_train_from() -> None:
    """The words are those of the command; driver and executors share a directory; the program is in the image."""
    objects = by_kind(values("preparing"))
    spec = objects["SparkApplication"]["spec"]
    shared = {"name": "shared", "mountPath": "/shared"}
    for one in (spec["driver"], spec["executor"]):
        assert shared in one["volumeMounts"]
        assert {"name": "TMPDIR", "value": shared["mountPath"]} in one["env"]
        assert one["envFrom"] == [{"secretRef": {"name": "twhin-store"}}]
        assert one["podSecurityContext"]["fsGroup"] == 10001  # whatever user the image has
        assert one["securityContext"]["allowPrivilegeEscalation"] is False
    folder = Path(spec["mainApplicationFile"].removeprefix("local://")).parent
    assert {"graph.toml", "prepare.py"} == set(objects["ConfigMap"]["data"])
    assert spec["arguments"][:4] == ["prepare", f"{folder}/graph.toml", "--out", "s3://models/graphs/2026-11-29"]
    command = [sys.executable, "-c", objects["ConfigMap"]["data"]["prepare.py"], *spec["arguments"], "--help"]
    assert "GRAPH.toml" in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    trained = values("training")
    trained["training"] = {**trained["training"], "graph": "", "graphUrl": "s3://models/graphs/2026-11-29"}
    [job] = jobs_of_sets(render(trained))
    environment = {one["name"]: one.get("value") for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["GRAPH"] == "s3://models/graphs/2026-11-29"


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("SparkApplication", {"type": None}, "spec.type is missing"),
        ("SparkApplication", {"mainFile": "local:///x.py"}, "no field spec.mainFile"),
        ("JobSet", {"failurePolicy": {"maxRestart": 3}}, "no field spec.failurePolicy.maxRestart"),
        ("JobSet", {"replicatedJobs": "all"}, "ReplicatedJob"),
    ],
)
def test_the_check_finds_what_an_extension_would_not_take(kind: str, change: Objects, said: str) -> None:
    [sound] = [one for name in ("preparing", "training") for one in render(values(name)) if one["kind"] == kind]
    assert list(model_faults(sound)) == []
    broken = {**sound, "spec": {key: value for key, value in {**sound["spec"], **change}.items() if value is not None}}
    assert any(said in fault for fault in model_faults(broken))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.mark.slow
def test_the_nightly_job_trains_builds_and_publishes_and_starts_from_the_last(
    production: Objects, s3: S3Server, tmp_path: Path
) -> None:
    """The job's own script, with a directory in place of its volume; the training is made short."""
    [job] = production["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    work = tmp_path / "work"
    work.mkdir()
    twhin = Path(sys.executable).with_name("twhin")
    graph = tmp_path / "graph"
    subprocess.run([twhin, "data", "generate", graph, "--users", "300"], check=True, capture_output=True)
    script = job["command"][-1].replace("/data/", f"{work}/")
    script = script.replace('"$@"', '--set dim=8 --set epochs=1 --set threads=1 "$@"')
    script = script.replace("--bundles", "--quick --no-map --bundles", 1)
    store = {"GRAPH": str(graph / "graph.toml"), "STORE": f"s3://{BUCKET}/nightly", "MEMORY": "2GiB"}
    environment = {**os.environ, **s3.environment(), **store, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{twhin.parent}{os.pathsep}{environment['PATH']}"
    for _ in range(2):
        done = subprocess.run(["sh", "-euc", script], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    runs = sorted(work.glob("run-*"))
    assert (work / "last").resolve() == runs[-1]
    assert json.loads((runs[-1] / "run.json").read_text())["parent"] is not None, (
        "the second begins where the first ended"
    )
    pulled = tmp_path / "pulled"
    subprocess.run(
        [twhin, "bundle", "pull", store["STORE"], "--bundles", pulled], env=environment, check=True, capture_output=True
    )
    assert len(list((work / "bundles").glob("*/manifest.json"))) == 2
    assert (pulled / "CURRENT").exists()
