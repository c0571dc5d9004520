"""The strategies a version has when nobody measured better ones."""

from bundle.manifest import QueryWeights, Strategy

DEFAULT_AUTO = "blend"
MODES = 3


def default_strategies(modes: int) -> dict[str, Strategy]:
    """The paper's strategies and the blends of a user's vector with a fold-in, by name."""
    modes = min(MODES, modes)
    relation_only = QueryWeights(mode=1.0, relation=1.0)
    return {
        "unimodal": Strategy(merge="single", weights=QueryWeights(user=1.0, relation=1.0)),
        "fold_in": Strategy(merge="single", weights=QueryWeights(fold_in=1.0, relation=1.0)),
        "blend": Strategy(merge="single", weights=QueryWeights(user=0.3, fold_in=0.7, relation=1.0, popularity=0.3)),
        "mixture": Strategy(merge="proportional", mode_vector="personal", modes=modes, weights=relation_only),
        "mixture_centroid": Strategy(
            merge="proportional", mode_vector="centroid", modes=modes, weights=QueryWeights(mode=1.0)
        ),
        "mixture_medoid": Strategy(
            merge="proportional", mode_vector="medoid", modes=modes, weights=QueryWeights(mode=1.0)
        ),
        "popular": Strategy(merge="popular"),
    }
