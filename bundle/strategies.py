"""The weights of every strategy before anything is learnt: the one place where they are written.

A build ships these strategies under these names, and better ones where it measured some; a version that lacks a name
answers it as written here.
"""

from bundle.manifest import Feature, QueryWeights, Rescoring, Strategy

DEFAULT_AUTO = "blend"
MODES = 3

UNIMODAL = QueryWeights(user=1.0, relation=1.0)
FOLD_IN = QueryWeights(fold_in=1.0, relation=1.0)
# A user's vector, the mean of the user's targets and popularity, as they served best where nothing was learnt.
BLEND = QueryWeights(user=0.3, fold_in=0.7, relation=1.0, popularity=0.3)
# What following back adds where nothing was learnt and a good part of the edges is returned.
FOLLOWERS_BONUS = 1.5
RECIPROCAL_SHARE = 0.1
# What `elsewhere` weighs where nothing was learnt: of a relation whose edges lead here one time in ten, as much as 1.4.
ELSEWHERE = 0.3
# What `recency` weighs there: the newest of ten gains 1.4 or so more than the oldest.
RECENCY = 0.6
# What `walk` adds up, and of how many candidates.
WALK: dict[Feature, float] = {"walk": 1.0, "user": 0.05, "fold_in": 0.05}
WALK_POOL = 300
# What learning starts from: its first candidates have to hold those who follow the user, and what the user has by
# other relations.
FIRST_GUESS = BLEND.model_copy(update={"reciprocity": FOLLOWERS_BONUS, "elsewhere": ELSEWHERE, "recency": RECENCY})
# The paper searches by a mode's vector alone, which is a target already: no θr. A personal mode is a mean of the
# user's own targets inside the cluster and is translated like a fold-in.
STORED_MODE = QueryWeights(mode=1.0)
PERSONAL_MODE = QueryWeights(mode=1.0, relation=1.0)


def default_strategies(modes: int = MODES) -> dict[str, Strategy]:
    """The paper's strategies and the blends of a user's vector with a fold-in, by name.

    Mixtures draw from MODES interests, or from `modes` where users have fewer.
    """
    modes = min(MODES, modes)
    return {
        "unimodal": Strategy(merge="single", weights=UNIMODAL),
        "fold_in": Strategy(merge="single", weights=FOLD_IN),
        "blend": Strategy(merge="single", weights=BLEND),
        "mixture": Strategy(merge="proportional", mode_vector="personal", modes=modes, weights=PERSONAL_MODE),
        "mixture_centroid": Strategy(merge="proportional", mode_vector="centroid", modes=modes, weights=STORED_MODE),
        "mixture_medoid": Strategy(merge="proportional", mode_vector="medoid", modes=modes, weights=STORED_MODE),
        "popular": Strategy(merge="popular"),
    }


def unlearnt_blend(returned_share: float) -> Strategy:
    """What answers by default where nothing was learnt: the blend, with a bonus for those who follow the user where so
    many of the relation's edges are returned that following back is likely, and one for what the user has by other
    relations.
    """
    bonus = FOLLOWERS_BONUS if returned_share >= RECIPROCAL_SHARE else 0.0
    weights = BLEND.model_copy(update={"reciprocity": bonus, "elsewhere": ELSEWHERE, "recency": RECENCY})
    return Strategy(merge="single", weights=weights)


def walk(weights: QueryWeights, beta: float = 0.0) -> Strategy:
    """The candidates of a query with these weights in the order of a walk over three edges: RP3β.

    A network that nothing taught, `ln(1 + 1000 walk) - β ln(1 + in-degree) + .05 θu·θt + .05 mean(θ)·θt`, and the
    bonuses of the weights: vectors order those whom the walk does not reach. `max(0, x) - max(0, -x)` lets the sum
    through.
    """
    bonuses: dict[Feature, float] = {
        "reciprocity": weights.reciprocity,
        "elsewhere": weights.elsewhere,
        "recency": weights.recency,
        "in_degree": -beta,
    }
    summed = WALK | {name: weight for name, weight in bonuses.items() if weight}
    features, terms = tuple(summed), tuple(summed.values())
    nothing, one = (0.0,) * len(terms), (1.0,) * len(terms)
    hidden = (terms, tuple(-term for term in terms))
    network = Rescoring(
        pool=WALK_POOL, features=features, mean=nothing, scale=one, hidden=hidden, bias=(0.0, 0.0), out=(1.0, -1.0)
    )
    return Strategy(merge="single", weights=weights, rescoring=network)


def mixture_blend(weights: QueryWeights) -> QueryWeights:
    """A blend for mixtures: the fold-in shares its weight with the mean of the user's targets inside the mode."""
    half = weights.fold_in / 2.0
    return weights.model_copy(update={"fold_in": half, "mode": half})
