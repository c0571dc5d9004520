# The serving image: no compiler, no torch, no root. Versions are mounted, never baked in.
#
#   docker build -t twhin .
#   docker run --read-only --tmpfs /tmp -v "$PWD/bundles:/bundles" -v twhin-state:/state -p 127.0.0.1:8000:8000 twhin

FROM python:3.12-slim-bookworm AS build
# The engine and hnswlib, which has no wheels, are compiled here, for any x86-64 machine and not for the one that builds.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
ENV HNSWLIB_NO_NATIVE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/twhin
WORKDIR /src
COPY pyproject.toml hatch_build.py requirements.image.lock README.md LICENSE twhin_command.py scripts/sbom.py ./
COPY bundle bundle
COPY engine engine
COPY storage storage
COPY graph graph
COPY index index
COPY recommend recommend
COPY service service
COPY cli cli
COPY training training
COPY evaluation evaluation
COPY export export
COPY ingest ingest
COPY client client
# With what `twhin bundle pull` and `twhin ingest` need, which run beside the service from the same image. Every file has a
# known digest; the tools that build (hatchling for these packages, those of hnswlib) are the index's newest, and stay behind.
RUN /opt/twhin/bin/pip install --require-hashes -r requirements.image.lock
RUN /opt/twhin/bin/pip install --no-deps . ./client
# What is in it: CycloneDX, of the Python packages. A scanner of images adds the system's.
RUN /opt/twhin/bin/python sbom.py /opt/twhin/sbom.cdx.json requirements.image.lock

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="twhin" \
      org.opencontainers.image.description="Graph embeddings, features and candidates over HTTP" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin twhin \
    && install -d -o 10001 -g 10001 /state /bundles
COPY --from=build /opt/twhin /opt/twhin
# One thread a search: workers, not libraries, share the cores.
ENV PATH=/opt/twhin/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 \
    TWHIN_STATE=/state/events.db
USER 10001:10001
VOLUME ["/bundles", "/state"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["twhin", "serve", "--bundles", "/bundles", "--host", "0.0.0.0", "--port", "8000"]
