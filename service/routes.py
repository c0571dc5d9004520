"""Every operation of the API in one list: the gateway answers from it, and the document is made from it."""

from dataclasses import replace

from service.api import (
    admin,
    attributes,
    edges,
    engagements,
    entities,
    feedback,
    lookups,
    manifests,
    operation,
    pages,
    places,
    recommend,
    search,
    similar,
    users,
)
from service.call import JSON, OCTETS
from service.route import Route
from service.wire import engagements as engagement_types
from service.wire import experiments as experiment_types
from service.wire import lookups as lookup_types
from service.wire import map as map_types
from service.wire import recommend as recommend_types
from service.wire import versions as version_types

VERSION = "an older version that is still kept"
SPACE = "the embedding space; the version's first one by default"
VECTORS = (JSON, OCTETS)

RECOMMEND_QUERY = {
    "k": "how many candidates",
    "strategy": "how they are found; auto by default",
    "relation": "the relation they are ranked by",
    "candidate_type": "the type of the candidates",
    "user_type": "the type of the user",
    "modes": "how many interests at most",
    "exclude": "ids to leave out; given again they add up, and one value may list several, comma separated",
    "exclude_seen": "false lets already followed entities back in",
    "filter": "which candidates are allowed, as JSON",
    "diversity": "0 to 1: how much candidates alike are avoided",
    "max_per_cluster": "how many candidates of one cluster at most",
    "explain": "true shows where each candidate came from",
    "experiments": "false answers as outside of any experiment",
    "space": SPACE,
    "spaces": "several spaces that answer together; given again they add up, or comma separated",
}


def _versioned(route: Route) -> Route:
    """The same operation under its versioned path."""
    return replace(route, path=f"/v1{route.path}", summary="The same under its versioned path")


RECOMMEND_BODY = Route(
    "POST",
    "/recommend",
    recommend.recommend,
    "Candidates for a user, or for inline engagements",
    "recommend",
    scope="read",
    request=recommend_types.RecommendBody,
    answer=recommend_types.RecommendAnswer,
    example={"user": "42", "k": 3, "exclude": ["7"], "explain": True},
)
RECOMMEND_USER = Route(
    "GET",
    "/recommend/{user:path}",
    recommend.recommend_user,
    "The same, with the user in the path",
    "recommend",
    scope="read",
    answer=recommend_types.RecommendAnswer,
    query=RECOMMEND_QUERY,
)
RECOMMEND_BATCH = Route(
    "POST",
    "/recommend:batch",
    recommend.recommend_batch,
    "Candidates for many users, each with its own status",
    "recommend",
    scope="read",
    request=recommend_types.BatchBody,
    answer=recommend_types.BatchAnswer,
    example={"users": ["42", "43"], "k": 3},
    queued=True,
)
RECOMMEND = (
    RECOMMEND_BODY,
    _versioned(RECOMMEND_BODY),
    RECOMMEND_USER,
    _versioned(RECOMMEND_USER),
    RECOMMEND_BATCH,
    _versioned(RECOMMEND_BATCH),
    Route(
        "POST",
        "/v1/versions/{version}/recommend",
        recommend.recommend_in,
        "Candidates from a version that is kept beside the serving one, to compare; one after the other",
        "recommend",
        scope="read",
        request=recommend_types.RecommendBody,
        answer=recommend_types.RecommendAnswer,
        example={"user": "42", "k": 3},
        statuses=(404, 409),
    ),
    Route(
        "GET",
        "/v1/users/{id:path}/interests",
        users.interests,
        "The interests of a user",
        "recommend",
        scope="read",
        answer=recommend_types.InterestsAnswer,
        query={
            "relation": "whose targets the interests are in; all that the user has by default",
            "user_type": "the type of the user",
            "space": SPACE,
        },
    ),
)

LOOKUPS = (
    Route(
        "POST",
        "/v1/embeddings",
        lookups.embeddings,
        "Vectors of many entities",
        "look-ups",
        scope="read",
        request=lookup_types.EmbeddingsBody,
        answer=lookup_types.EmbeddingsAnswer,
        example={"type": "user", "ids": ["42", "43"], "encoding": "base64"},
        statuses=(404, 406),
        media=VECTORS,
    ),
    Route(
        "GET",
        "/v1/embeddings/{type}/{id:path}",
        lookups.embedding,
        "The vector of one entity",
        "look-ups",
        scope="read",
        answer=lookup_types.EmbeddingAnswer,
        query={"encoding": "json or base64", "version": VERSION, "space": SPACE},
        statuses=(404, 406),
        media=VECTORS,
    ),
    Route(
        "POST",
        "/v1/features",
        lookups.features,
        "PQ-decoded vectors, or their codes, of many entities",
        "look-ups",
        scope="read",
        request=lookup_types.FeaturesBody,
        answer=lookup_types.FeaturesAnswer,
        example={"type": "user", "ids": ["42"], "representation": "codes", "encoding": "base64"},
        statuses=(404, 406),
        media=VECTORS,
    ),
    Route(
        "GET",
        "/v1/codebooks/{type}",
        lookups.codebook,
        "The codebook, for clients that decode for themselves",
        "look-ups",
        scope="read",
        answer=lookup_types.CodebookAnswer,
        query={"version": VERSION, "space": SPACE},
        statuses=(304, 404),
    ),
    Route(
        "GET",
        "/v1/entities/{type}",
        entities.entities,
        "The ids of a type, page by page",
        "look-ups",
        scope="read",
        answer=lookup_types.EntitiesAnswer,
        query={
            "limit": "how many ids at most",
            "cursor": "the `next` of the page before; the version stays that page's",
            "version": VERSION,
            "space": SPACE,
        },
        statuses=(404,),
    ),
    Route(
        "POST",
        "/v1/edges",
        edges.edges,
        "What an entity has, and who has it, by relation",
        "look-ups",
        scope="read",
        request=lookup_types.EdgesBody,
        answer=lookup_types.EdgesAnswer,
        example={"type": "user", "id": "42", "limit": 3},
        statuses=(404,),
    ),
    Route(
        "POST",
        "/v1/similar",
        similar.similar,
        "Nearest entities to an entity or a vector",
        "look-ups",
        scope="read",
        request=lookup_types.SimilarBody,
        answer=lookup_types.SimilarAnswer,
        example={"type": "user", "id": "42", "k": 3},
        statuses=(404,),
        queued=True,
    ),
    Route(
        "POST",
        "/v1/score",
        similar.score,
        "Scores of given pairs under a relation",
        "look-ups",
        scope="read",
        request=lookup_types.ScoreBody,
        answer=lookup_types.ScoreAnswer,
        example={"pairs": [{"source": "42", "target": "43"}]},
    ),
)

MAP = (
    Route(
        "GET",
        "/v1/map",
        places.outline,
        "What the map of all entities has: types and clusters",
        "map",
        scope="read",
        answer=map_types.MapAnswer,
        query={"version": VERSION, "space": SPACE},
        statuses=(304, 404),
    ),
    Route(
        "GET",
        "/v1/map/{type}",
        places.places,
        "Places and clusters of all entities of a type, as bytes",
        "map",
        scope="read",
        query={"version": VERSION, "space": SPACE},
        statuses=(304, 404),
        media=(OCTETS,),
    ),
    Route(
        "GET",
        "/v1/map/{type}/attribute",
        attributes.attribute,
        "One attribute of all entities of a type, a byte each",
        "map",
        scope="read",
        query={"name": "the attribute", "version": VERSION, "space": SPACE},
        statuses=(304, 404),
        media=(OCTETS,),
    ),
    Route(
        "GET",
        "/v1/attributes",
        attributes.attributes,
        "The attributes of each type, with frequent values and ranges",
        "map",
        scope="read",
        answer=map_types.AttributesAnswer,
        query={"version": VERSION, "space": SPACE},
        statuses=(304, 404),
    ),
    Route(
        "POST",
        "/v1/map:entities",
        places.entities,
        "Ids, places and clusters of entities by id or by row",
        "map",
        scope="read",
        request=map_types.PlacesBody,
        answer=map_types.PlacesAnswer,
        example={"type": "user", "ids": ["42"], "rows": [0, 1]},
        statuses=(404,),
    ),
    Route(
        "GET",
        "/v1/search",
        search.search,
        "Entities whose id begins with a text, or whose label has it",
        "map",
        scope="read",
        answer=map_types.SearchAnswer,
        query={
            "q": "the beginning of an id, or a part of a label; popular entities without it",
            "type": "one entity type; all by default",
            "k": "how many of each type",
            "space": SPACE,
        },
    ),
    Route(
        "GET",
        "/v1/manifests",
        manifests.manifests,
        "The versions on disk and what each was measured to do",
        "operation",
        scope="read",
        answer=map_types.ManifestsAnswer,
    ),
)

ENGAGEMENTS = (
    Route(
        "POST",
        "/v1/engagements",
        engagements.engagements,
        "Store what users did; durable when answered",
        "engagements",
        scope="write",
        request=engagement_types.EngagementsBody,
        answer=engagement_types.EngagementsAnswer,
        example={"events": [{"id": "e-1", "user": "42", "action": "add", "target": "43"}]},
    ),
    Route(
        "DELETE",
        "/v1/users/{id:path}/engagements",
        engagements.forget,
        "Remove everything stored about a user",
        "engagements",
        scope="write",
        answer=engagement_types.ForgottenAnswer,
        query={"user_type": "the type of the user", "space": SPACE},
    ),
)

EXPERIMENTS = (
    Route(
        "GET",
        "/v1/experiments",
        feedback.experiments,
        "The experiments, their arms, and what was accepted in each",
        "experiments",
        scope="read",
        answer=experiment_types.ExperimentsAnswer,
    ),
    Route(
        "POST",
        "/v1/feedback",
        feedback.feedback,
        "Count which candidates were shown and clicked; durable when answered",
        "experiments",
        scope="write",
        request=experiment_types.FeedbackBody,
        answer=experiment_types.FeedbackAnswer,
        example={
            "events": [
                {
                    "request_id": "af58e6dc846d79ab",
                    "experiment": "interests",
                    "arm": "mixture",
                    "impressions": ["43", "44"],
                    "clicks": ["44"],
                }
            ]
        },
    ),
)

OPERATION = (
    Route("GET", "/livez", operation.livez, "Whether to restart the process", "operation", scope="open", probe=True),
    Route("GET", "/readyz", operation.readyz, "Whether to send traffic", "operation", scope="open", probe=True),
    Route("GET", "/startupz", operation.startupz, "Whether start-up is over", "operation", scope="open", probe=True),
    Route(
        "GET",
        "/metrics",
        operation.exposition,
        "Prometheus metrics",
        "operation",
        scope="read",
        media=("text/plain",),
        probe=True,
    ),
    Route("GET", "/v1/info", operation.info, "What is served, and within which limits", "operation", scope="read"),
    Route(
        "GET",
        "/v1/versions",
        entities.versions,
        "Which version was published when",
        "operation",
        scope="read",
        answer=version_types.VersionsAnswer,
    ),
    Route("GET", "/admin/v1/versions", admin.versions, "The versions on disk", "admin", scope="admin", statuses=(404,)),
    Route(
        "POST",
        "/admin/v1/versions/{version}/publish",
        admin.publish,
        "Check and publish a version; services take it over at their next look",
        "admin",
        scope="admin",
        patient=True,
        statuses=(404, 409),
    ),
    Route(
        "POST",
        "/admin/v1/versions/{version}/activate",
        admin.activate,
        "Check, publish and serve a version",
        "admin",
        scope="admin",
        patient=True,
        statuses=(404, 409),
    ),
    Route(
        "POST",
        "/admin/v1/rollback",
        admin.roll_back,
        "Go back to the version before this one",
        "admin",
        scope="admin",
        patient=True,
        statuses=(404, 409),
    ),
)

ROUTES: tuple[Route, ...] = RECOMMEND + LOOKUPS + MAP + ENGAGEMENTS + EXPERIMENTS + OPERATION
PAGES = (
    Route("GET", "/", pages.studio, "The studio: the map, asking, versions, health", "pages", scope="open"),
    Route("GET", "/studio/{file}", pages.asset, "A file of the studio", "pages", scope="open"),
    Route("GET", "/ui", pages.explorer, "Leads to the studio", "pages", scope="open"),
    Route("GET", "/docs", pages.documents, "The API's document, to be read and tried", "pages", scope="open"),
    Route("GET", f"{pages.STATIC}/{{file}}", pages.documents_asset, "A file of it", "pages", scope="open"),
)
