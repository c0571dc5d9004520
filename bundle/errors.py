"""Every error the project raises on purpose: one tree, each with a stable code.

TwhinError
├── UsageError                 arguments or settings that cannot work          exit 2
│   ├── ConfigError            a configuration file with an unknown or bad key
│   ├── KernelUnavailable      the compiled training step cannot be built here
│   └── EngineUnavailable      nor the compiled engine
├── GraphError                 the user's graph files                           exit 3
│   ├── GraphFileError         graph.toml itself
│   └── EdgeFileError          an edge file: file, row, column, what was found
├── RunError                   a run directory                                  exit 4
│   ├── RunIncomplete
│   ├── Diverged               the loss stopped being a number
│   └── DiskFull
├── BundleError                a version or the directory of versions           exit 5
│   ├── BundleNotFound
│   ├── BundleIncomplete       a file is missing
│   ├── BundleAltered          a file differs from its digest, or is one too many
│   ├── BundleInvalid          a wrong shape, NaN or Inf
│   ├── BundleFormatUnsupported
│   ├── GateRefused            the evaluation is below what publishing asks for
│   ├── RecallTooLow           an index does not find what exact search finds
│   ├── BundlesReadOnly        versions may be read here but not published
│   └── BundlesBusy            another process is publishing
├── QueryError                 a search that cannot be run                      HTTP 422
│   ├── EntityUnknown                                                           HTTP 404
│   └── FilterInvalid          a filter that does not fit the version's attributes
├── StateError                 the store of live engagements                    HTTP 503, exit 6
├── StorageError               a store of versions or of edge files             exit 6
├── SparkFailed                a job on Spark                                   exit 6
└── IngestError                a stream of engagements, or the service it goes to   exit 6

A message says what was found, what was expected and what to do. The HTTP status of each code is set
in one place, `service/problems.py`; the exit status here.
"""


class TwhinError(Exception):
    """Base of all errors raised on purpose. `code` is stable; `exit_status` is the command's."""

    code = "error"
    exit_status = 1


class UsageError(TwhinError):
    """Arguments or settings that cannot work together."""

    code = "usage"
    exit_status = 2


class ConfigError(UsageError):
    """A configuration file with an unknown key or a value of the wrong kind."""

    code = "config_invalid"


class KernelUnavailable(UsageError):
    """The compiled training step cannot be compiled, kept or loaded on this machine."""

    code = "kernel_unavailable"


class EngineUnavailable(UsageError):
    """The compiled engine is not built, cannot be compiled or loaded here, or is switched off."""

    code = "engine_unavailable"


class GraphError(TwhinError):
    """The user's graph cannot be read."""

    code = "graph_invalid"
    exit_status = 3


class GraphFileError(GraphError):
    """`graph.toml` is missing, unreadable or contradicts itself."""

    code = "graph_file_invalid"


class EdgeFileError(GraphError):
    """An edge file is missing or holds a row that cannot be read."""

    code = "edge_file_invalid"


class RunError(TwhinError):
    """A run directory cannot be used."""

    code = "run_invalid"
    exit_status = 4


class RunIncomplete(RunError):
    """The run directory lacks a file that a finished run has."""

    code = "run_incomplete"


class Diverged(RunError):
    """The training loss stopped being a finite number."""

    code = "training_diverged"


class DiskFull(RunError):
    """There was no room left to write; what was complete before is intact."""

    code = "disk_full"


class BundleError(TwhinError):
    """A version, or the directory of versions, cannot be used."""

    code = "bundle_invalid"
    exit_status = 5


class BundleNotFound(BundleError):
    """No such version, or nothing is published."""

    code = "version_not_found"


class BundleIncomplete(BundleError):
    """A file that the manifest lists is missing or shorter than it says."""

    code = "bundle_incomplete"


class BundleAltered(BundleError):
    """A file differs from its digest, or is not in the manifest."""

    code = "bundle_altered"


class BundleInvalid(BundleError):
    """An array has another shape or type than the manifest says, or holds NaN or Inf."""

    code = "bundle_invalid"


class BundleFormatUnsupported(BundleError):
    """The bundle's format version is not one this code reads."""

    code = "bundle_format_unsupported"


class GateRefused(BundleError):
    """The version's own evaluation is below what publishing asks for."""

    code = "gate_refused"


class RecallTooLow(BundleError):
    """The index of a version does not find what exact search finds."""

    code = "version_refused"


class BundlesReadOnly(BundleError):
    """This process may read the versions but not say which is current."""

    code = "bundles_read_only"


class BundlesBusy(BundleError):
    """Another process holds the lock of the bundles directory."""

    code = "bundles_busy"


class QueryError(TwhinError):
    """A query that cannot be answered: wrong dimension, NaN, unknown type, k out of range."""

    code = "query_invalid"
    exit_status = 2


class EntityUnknown(QueryError):
    """The id is not in this version."""

    code = "entity_not_found"


class FilterInvalid(QueryError):
    """A filter names an attribute that is not there, or compares it with a value of a wrong type, at `pointer`."""

    code = "filter_invalid"

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class StateError(TwhinError):
    """The store of live engagements did not take or give the data."""

    code = "state_unavailable"
    exit_status = 6


class StorageError(TwhinError):
    """An object store does not answer, or refuses."""

    code = "storage_unavailable"
    exit_status = 6


class SparkFailed(TwhinError):
    """A job on Spark did not finish."""

    code = "spark_failed"
    exit_status = 6


class IngestError(TwhinError):
    """A stream of engagements cannot be read, or the service does not take it. What was not stored is read again."""

    code = "ingest_failed"
    exit_status = 6
