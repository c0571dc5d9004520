"""The documents agree with the service: openapi.json, docs/api.md, runbook, dashboard, alerts, image, compose file."""

import json
import re
from pathlib import Path

import httpx
import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.main import create_app
from service.openapi import describe
from service.problems import STATUS
from service.routes import ROUTES
from service.settings import Limits, Settings
from service.supervisor import GRACE_SECONDS
from service.worker import CLOSING_SECONDS
from tests.support.service_bundle import user_ids

ROOT = Path(__file__).resolve().parents[3]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))
MODULES = {"twhin_client", "twhin_command"}
COMMITTED = json.loads((ROOT / "openapi.json").read_text(encoding="utf-8"))


def test_the_committed_document_is_what_the_service_says(client: httpx.Client) -> None:
    assert client.get("/openapi.json").json() == COMMITTED, (
        "run `make openapi`, then `python client/generate.py`, and look at the difference"
    )


def test_limits_are_in_the_document() -> None:
    small = describe(Limits(k_max=7, lookup_max=3))
    assert small["components"]["schemas"]["RecommendBody"]["properties"]["k"]["maximum"] == 7
    assert small["components"]["schemas"]["EmbeddingsBody"]["properties"]["ids"]["maxItems"] == 3


def test_every_example_of_the_document_works(client: httpx.Client) -> None:
    for path, operations in COMMITTED["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        if content:
            example = content["application/json"]["example"]
            response = client.post(path, content=json.dumps(example))
            assert response.status_code in (200, 404), (path, response.text)


def test_every_route_setting_and_code_is_in_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    wanted = [route.path.replace(":path}", "}") for route in ROUTES] + list(STATUS)
    wanted += [f"TWHIN_{name.upper()}" for name in [*Limits.model_fields, *Settings.model_fields] if name != "limits"]
    assert [name for name in wanted if name not in page] == []


def test_dashboards_alerts_and_pages_name_metrics_that_exist(client: httpx.Client) -> None:
    exposed = client.get("/metrics").text
    texts = [path.read_text() for path in (*DASHBOARDS, *(ROOT / "deploy" / "prometheus").glob("*.yml"))]
    used = {name for text in texts for name in re.findall(r"\b(?:twhin|process)_[a-z_]+", text)}
    pages = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")]
    used |= {name for page in pages for name in re.findall(r"`(twhin_[a-z_]+)[`{]", page)} - MODULES
    assert len(used) > 30
    missing = [name for name in used if f"# TYPE {re.sub('_(bucket|sum|count)$', '', name)} " not in exposed]
    assert missing == []
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "recording.yml").read_text())["groups"][0]["rules"]
    recorded = {name for text in texts for name in re.findall(r"\btwhin:[a-z][a-z0-9:_]+", text)}
    assert recorded == {rule["record"] for rule in rules}


def test_every_alert_has_its_section_in_the_runbook() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    titles = [line[3:].lower() for line in runbook.splitlines() if line.startswith("## ")]
    anchors = {re.sub(r"[^a-z0-9 -]", "", title).replace(" ", "-") for title in titles}
    assert {rule["annotations"]["runbook"].partition("#")[2] for rule in rules} <= anchors


def test_the_image_is_small_and_without_privileges() -> None:
    text = (ROOT / "Dockerfile").read_text()
    final = text.split("FROM ")[-1]
    assert "torch" not in re.sub("#.*", "", text)
    assert re.search(r"^USER (?!0|root)\d+", final, re.M)
    assert "HEALTHCHECK" in final
    assert re.search(r'^ENTRYPOINT \["twhin", "serve"', final, re.M), "exec form, so that signals arrive"
    assert "g++" not in final
    for line in re.findall(r"^COPY (?!--from)(\S+)", text, re.M):
        assert (ROOT / line).exists(), line


def test_the_compose_file_is_sound() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["twhin"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_compose_waits_until_the_service_has_ended() -> None:
    after_draining = Settings().shutdown_seconds + CLOSING_SECONDS + GRACE_SECONDS
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["twhin"]
    assert int(compose["stop_grace_period"].rstrip("s")) > Settings().drain_seconds + after_draining


def test_an_alert_fires_when_every_instance_is_silent() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    silent = [rule for rule in rules if rule["expr"].startswith("absent(")]
    assert [rule["labels"]["severity"] for rule in silent] == ["page"]


schema = schemathesis.openapi.from_dict(COMMITTED)
CHECKS = (
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)


@pytest.mark.filterwarnings("ignore")
@schema.parametrize()
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_500_and_no_undocumented_answer(case: schemathesis.Case, client: httpx.Client) -> None:
    # A 503 or 504 is an answer that the document has (a deadline of a millisecond, for one); a 500 never is.
    response = case.call_and_validate(base_url=str(client.base_url), checks=list(CHECKS))
    assert response.status_code != 500


def test_importing_the_service_opens_nothing(tmp_path: Path) -> None:
    create_app(Settings(bundles=tmp_path / "none"))
    assert not list(tmp_path.iterdir())
    assert user_ids()
