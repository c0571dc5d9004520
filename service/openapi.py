"""The OpenAPI document, made from the table of routes and the types of the wire.

`python -m service.openapi` writes it to standard output; `openapi.json` is that, committed.
"""

import json
import sys
from importlib.metadata import version
from typing import Any

import msgspec

from service.call import JSON, REPEATED
from service.problems import CONTENT_TYPE, STATUS, TITLES, ProblemDocument
from service.route import Route
from service.routes import ROUTES
from service.settings import Limits

Document = dict[str, Any]
SUMMARY = "Graph embeddings, features and candidates for ranking services"
REF = "#/components/schemas/{name}"
# Where a limit of the settings belongs in the schemas.
LIMITED = {
    ("RecommendBody", "k", "maximum"): "k_max",
    ("BatchBody", "k", "maximum"): "k_max",
    ("SimilarBody", "k", "maximum"): "k_max",
    ("BatchBody", "users", "maxItems"): "batch_max",
    ("RecommendBody", "exclude", "maxItems"): "exclude_max",
    ("BatchBody", "exclude", "maxItems"): "exclude_max",
    ("SimilarBody", "exclude", "maxItems"): "exclude_max",
    ("RecommendBody", "engagements", "maxItems"): "engagements_max",
    ("RecommendBody", "followers", "maxItems"): "engagements_max",
    ("EngagementsBody", "events", "maxItems"): "engagements_max",
    ("FeedbackBody", "events", "maxItems"): "engagements_max",
    ("EmbeddingsBody", "ids", "maxItems"): "lookup_max",
    ("FeaturesBody", "ids", "maxItems"): "lookup_max",
    ("ScoreBody", "pairs", "maxItems"): "lookup_max",
}


def describe(limits: Limits) -> Document:
    """The OpenAPI 3.1 document of the service under `limits`."""
    paths: Document = {}
    for route in ROUTES:
        paths.setdefault(route.label, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "twhin", "version": version("twhin"), "summary": SUMMARY},
        "paths": paths,
        "components": {
            "schemas": _schemas(limits),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _schemas(limits: Limits) -> Document:
    types = [kind for route in ROUTES for kind in (route.request, route.answer) if kind is not None]
    _, schemas = msgspec.json.schema_components([*dict.fromkeys(types), ProblemDocument], ref_template=REF)
    for (schema, name, keyword), limit in LIMITED.items():
        schemas[schema]["properties"][name][keyword] = getattr(limits, limit)
    # Every code and its status, for clients that are generated from this.
    schemas[ProblemDocument.__name__]["x-codes"] = dict(STATUS)
    return schemas


def _operation(route: Route) -> Document:
    operation: Document = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.scope == "open":
        operation["security"] = []
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: _media(route.request, route)}}
    return operation


def _operation_id(route: Route) -> str:
    words = route.label.replace("{", "").replace("}", "").replace(":", "/").replace(".", "/").split("/")
    return "_".join([route.method.lower(), *filter(None, words)])


def _media(kind: type[msgspec.Struct], route: Route) -> Document:
    media: Document = {"schema": {"$ref": REF.format(name=kind.__name__)}}
    return media | ({"example": route.example} if route.example is not None and kind is route.request else {})


def _parameters(route: Route) -> list[Document]:
    in_path = [part[1:].partition(":")[0].rstrip("}") for part in route.path.split("/") if part.startswith("{")]
    parameters: list[Document] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in in_path
    ]
    for name, text in route.query.items():
        parameters.append({"name": name, "in": "query", "description": text, "schema": _query_schema(name)})
    if not route.probe:
        parameters.append(
            {
                "name": "X-Request-Timeout-Ms",
                "in": "header",
                "description": "time the answer may take; capped by the settings",
                "schema": {"type": "integer", "minimum": 1},
            }
        )
    return parameters


def _query_schema(name: str) -> Document:
    if name in ("k", "modes", "limit", "max_per_cluster"):
        return {"type": "integer", "minimum": 1}
    if name == "diversity":
        return {"type": "number", "minimum": 0, "maximum": 1}
    if name in REPEATED:
        return {"type": "array", "items": {"type": "string"}}
    if name in ("explain", "exclude_seen", "experiments"):
        return {"type": "boolean"}
    return {"type": "string", "enum": ["json", "base64"]} if name == "encoding" else {"type": "string"}


def _responses(route: Route) -> Document:
    schema = {"$ref": REF.format(name=route.answer.__name__)} if route.answer else {"type": "object"}
    content = {media: {"schema": schema if media == JSON else {"type": "string"}} for media in route.media}
    responses: Document = {"200": {"description": "The answer", "content": content}}
    if route.patient:
        text = "It goes on; /admin/v1/versions shows it as `change` until it is done, and why if it fails"
        responses["202"] = {"description": text, "content": content}
    for status in sorted({*_statuses(route), *route.statuses}):
        responses[str(status)] = _problem(status)
    return responses


def _problem(status: int) -> Document:
    if status == 304:
        return {"description": "Not modified"}
    schema = {"$ref": REF.format(name=ProblemDocument.__name__)}
    return {"description": TITLES[status], "content": {CONTENT_TYPE: {"schema": schema}}}


def _statuses(route: Route) -> set[int]:
    """The statuses any route of this kind may answer with."""
    if route.probe:
        return {401, 403, 500, 503} if route.scope != "open" else {500, 503}
    statuses = {400, 401, 403, 422, 500, 503} if route.patient else {400, 401, 403, 422, 500, 503, 504}
    return statuses | {413, 415} if route.request is not None else statuses


def main() -> None:
    """Write the document under the default limits to standard output."""
    sys.stdout.write(json.dumps(describe(Limits()), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
