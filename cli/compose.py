"""Where the parts are put together: a version becomes a recommender, a build gets its measurement."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from bundle.errors import BundleError, EdgeFileError, UsageError

if TYPE_CHECKING:
    from bundle.assessment import Assessments
    from bundle.manifest import Manifest
    from bundle.prepared import PreparedGraph
    from bundle.progress import Progress
    from bundle.space import Bundle
    from bundle.versions import Judge as JudgeVersion
    from evaluation.ranking.examples import ExampleFile
    from index.builder.version import Assess, AssessTogether, MeasureDrift
    from recommend.recommender import Recommender
    from storage.files import StoredFile
    from training.search import Judge

# What a trial of a search is judged by: enough edges to tell settings apart, few enough that training takes the time.
JUDGED_EDGES_MIN, JUDGED_EDGES_MAX = 500, 5_000
JUDGED_SCORES = 2 * 10**9


def open_recommender(path: Path) -> "Recommender":
    """The recommender over the version in the directory `path`, as the service would open it."""
    from bundle.reader import open_bundle
    from index.search.open import open_searchers
    from recommend.recommender import Recommender

    bundle = open_bundle(path)
    return Recommender(bundle, open_searchers(bundle))


def named_by_experiments(bundles: Path, experiments: Path | None) -> frozenset[str]:
    """The versions that arms name in the service's file of experiments. Raises ConfigError for one that is unfit."""
    from service.experiments.file import file_of, read_experiments, versions_in

    return versions_in(read_experiments(file_of(bundles, experiments)))


def assessor(run: Path, seed: int, progress: "Progress | None" = None, space: str | None = None) -> "Assess":
    """What a build calls on its staged version: learn on the run's validation edges, relation by relation, about the
    space that was made of the run, by default the first.
    """
    from bundle.progress import SILENT
    from bundle.run import open_graph
    from evaluation.learning.assess import assess

    def learn(staged: Path) -> "Assessments":
        recommender = open_recommender(staged)
        about = recommender if space is None else recommender.starting_with(space)
        return assess(about, open_graph(run), seed, progress=progress or SILENT)

    return learn


def assessor_together(run: Path, seed: int, progress: "Progress") -> "AssessTogether":
    """What a build of several spaces calls when each is learnt: what they weigh together, on the first run's edges."""
    from bundle.run import open_graph
    from evaluation.learning.together import assess_together

    return lambda staged: assess_together(open_recommender(staged), open_graph(run), seed, progress=progress)


def drift_measure(run: Path, bundles: Path, progress: "Progress") -> "MeasureDrift | None":
    """What a build calls to learn how far its staged version is from the one that the run was warm started from.

    None where that is no version of `bundles`: it was a run, or is gone.
    """
    from bundle.errors import TwhinError
    from bundle.layout import MANIFEST
    from bundle.manifest import Drift
    from bundle.run import read_run_record
    from evaluation.drift import drift_entry, evaluate_drift

    parent = read_run_record(run).parent
    if parent is None or not (bundles / parent / MANIFEST).is_file():
        return None

    def measure(staged: Path) -> Drift | None:
        try:
            return drift_entry(evaluate_drift(bundles / parent, staged, progress=progress), parent)
        except TwhinError:  # another version of that name, of other types or dimensions, or a damaged one
            return None

    return measure


def judge_of_links(prepared: "PreparedGraph", seed: int) -> "tuple[Judge, int]":
    """What a search for settings asks of each trial, the filtered MRR of validation edges, and of how many of them."""
    from evaluation.links import evaluate_links

    candidates = max(entity.count for entity in prepared.entities)
    held_out = sum(len(relation.valid) for relation in prepared.relations)
    most = min(held_out, JUDGED_EDGES_MAX, max(JUDGED_EDGES_MIN, JUDGED_SCORES // (2 * candidates)))

    def judge(run: Path) -> float:
        return evaluate_links(run, part="valid", max_edges_in_all=most, seed=seed).overall.mrr

    return judge, most


def read_examples(name: Path | str) -> "ExampleFile":
    """Labelled examples, read as edge files are, from a path or a URL of a store.

    Raises UsageError naming the file, the place and what was expected, StorageError.
    """
    from evaluation.ranking.examples import ExampleFile
    from graph.files import local
    from graph.labelled import read_labelled
    from storage.address import is_url

    with local(_stored(str(name)) if is_url(str(name)) else Path(name)) as path:
        try:
            return ExampleFile(path, *read_labelled(path))
        except EdgeFileError as error:
            raise UsageError(str(error).replace(str(path), str(name))) from error


def _stored(url: str) -> "StoredFile":
    from storage.files import find_file

    return find_file(url)


def publish_in_store(
    url: str, bundles: Path, version: str, force: str | None, judge: "JudgeVersion", progress: "Progress"
) -> "tuple[Manifest, list[str]]":
    """Check a version of `bundles`, copy it to the store and make it the published one there.

    Its manifest, and what requests can name in the version that was published there before and not in it, in sentences.
    """
    from hashlib import sha256

    from bundle.disk import read_plain
    from bundle.layout import MANIFEST
    from bundle.versions import through_the_gates
    from storage.layout import read_current, read_manifest
    from storage.push import publish
    from storage.push import push as push_version
    from storage.store import open_store

    store = open_store(url)
    before = read_current(store)  # whoever publishes from here on is not overwritten
    bundle = open_checked(bundles, version, progress)
    own = read_plain(bundle.path / MANIFEST)
    active = None if before is None or before.version == version else read_manifest(store, before.version)[0]
    gates = [*bundle.manifest.evaluation.gates, *judge(bundle.manifest, active)]
    manifest = through_the_gates(bundle.manifest, gates, force)
    gone = [] if before is None or active is None else _lost_in_store(bundles, active, before.digest, bundle)
    forced = None if manifest is bundle.manifest else manifest.model_dump_json(indent=1).encode()
    push_version(store, bundle, forced, progress)
    publish(store, version, sha256(forced or own).hexdigest(), before)
    return manifest, gone


def _lost_in_store(bundles: Path, active: "Manifest", digest: str, bundle: "Bundle") -> list[str]:
    """What `bundle` has lost since the `active` version of a store, categories where that version is here too."""
    from bundle.layout import MANIFEST
    from bundle.lost import lost, lost_names, names_of
    from bundle.reader import open_bundle
    from bundle.verify import digest_of

    here = bundles / active.version
    with suppress(BundleError, OSError):  # damaged, which is no reason not to publish a better one
        if (here / MANIFEST).is_file() and digest_of(here / MANIFEST) == digest:
            return list(lost(open_bundle(here), bundle))
    return list(lost_names(names_of(active), names_of(bundle.manifest)))


def open_checked(bundles: Path, version: str, progress: "Progress") -> "Bundle":
    """A version of `bundles`, every byte of which was compared with its digest."""
    from bundle.verify import verify_bundle
    from bundle.versions import open_version

    bundle = open_version(bundles, version)
    total = sum(entry.size_bytes for entry in bundle.manifest.files.values())
    with progress.stage("checking digests", total, "B") as stage:
        verify_bundle(bundle, advance=stage.advance)
    return bundle


def require_same_graph(graph: "PreparedGraph", digest: str, what: str) -> None:
    """Raise UsageError when `what`, a version or a service, was built from another graph than the run's: rows and
    held-out edges of one graph mean nothing in another.
    """
    if graph.digest != digest:
        raise UsageError(
            f"{what} was built from graph {digest:.12}, the run {graph.path.parent} has graph {graph.digest:.12}. "
            "Name with --run the run it was built from, or a version that was built from this run."
        )
