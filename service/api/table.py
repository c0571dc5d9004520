"""Every operation of the API, in one list: the framework, the edge and the document are made from it."""

from service.api import admin, engagements, lookups, operation, recommend, similar, users
from service.call import JSON, OCTETS
from service.routes import Route
from service.wire import engagements as engagement_types
from service.wire import lookups as lookup_types
from service.wire import recommend as recommend_types

VERSION = "an older version that is still kept"
SPACE = "the embedding space; the version's first one by default"
VECTORS = (JSON, OCTETS)
ASKED = {"user": "42", "k": 3, "exclude": ["7"], "explain": True}

RECOMMEND = (
    Route(
        "POST",
        "/recommend",
        recommend.recommend,
        "Candidates for a user, or for inline engagements",
        "recommend",
        request=recommend_types.RecommendBody,
        answer=recommend_types.RecommendAnswer,
        example=ASKED,
    ),
    Route(
        "POST",
        "/v1/recommend",
        recommend.recommend,
        "The same under its versioned path",
        "recommend",
        request=recommend_types.RecommendBody,
        answer=recommend_types.RecommendAnswer,
        example=ASKED,
    ),
    Route(
        "GET",
        "/recommend/{user:path}",
        recommend.recommend_user,
        "The same, with the user in the path",
        "recommend",
        answer=recommend_types.RecommendAnswer,
        query={
            "k": "how many candidates",
            "strategy": "how they are found; auto by default",
            "relation": "the relation they are ranked by",
            "candidate_type": "the type of the candidates",
            "user_type": "the type of the user",
            "modes": "how many interests at most",
            "exclude": "ids to leave out, comma separated",
            "exclude_seen": "false lets already followed entities back in",
            "explain": "true shows where each candidate came from",
            "space": SPACE,
        },
    ),
    Route(
        "POST",
        "/recommend:batch",
        recommend.recommend_batch,
        "Candidates for many users, each with its own status",
        "recommend",
        request=recommend_types.BatchBody,
        answer=recommend_types.BatchAnswer,
        example={"users": ["42", "43"], "k": 3},
    ),
    Route(
        "GET",
        "/v1/users/{id:path}/interests",
        users.interests,
        "The interests of a user",
        "recommend",
        answer=recommend_types.InterestsAnswer,
        query={"relation": "the relation examples are taken from", "user_type": "the type of the user", "space": SPACE},
    ),
)

LOOKUPS = (
    Route(
        "POST",
        "/v1/embeddings",
        lookups.embeddings,
        "Vectors of many entities",
        "look-ups",
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
        answer=lookup_types.CodebookAnswer,
        query={"version": VERSION, "space": SPACE},
        statuses=(304, 404),
    ),
    Route(
        "POST",
        "/v1/similar",
        similar.similar,
        "Nearest entities to an entity or a vector",
        "look-ups",
        request=lookup_types.SimilarBody,
        answer=lookup_types.SimilarAnswer,
        example={"type": "user", "id": "42", "k": 3},
        statuses=(404,),
    ),
    Route(
        "POST",
        "/v1/score",
        similar.score,
        "Scores of given pairs under a relation",
        "look-ups",
        request=lookup_types.ScoreBody,
        answer=lookup_types.ScoreAnswer,
        example={"pairs": [{"source": "42", "target": "43"}]},
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
        media=("text/plain",),
        probe=True,
    ),
    Route("GET", "/v1/info", operation.info, "What is served, and within which limits", "operation"),
    Route("GET", "/admin/v1/versions", admin.versions, "The versions on disk", "admin", scope="admin", statuses=(404,)),
    Route(
        "POST",
        "/admin/v1/versions/{version}/activate",
        admin.activate,
        "Check, publish and serve a version",
        "admin",
        scope="admin",
        statuses=(404, 409),
    ),
    Route(
        "POST",
        "/admin/v1/rollback",
        admin.roll_back,
        "Go back to the version before this one",
        "admin",
        scope="admin",
        statuses=(404, 409),
    ),
)

ROUTES: tuple[Route, ...] = RECOMMEND + LOOKUPS + ENGAGEMENTS + OPERATION
