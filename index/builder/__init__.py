"""From a finished run to a version: clusters, mixtures, codebooks, indexes and the recall that lets it pass."""
