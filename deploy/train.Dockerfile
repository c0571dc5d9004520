# The image that trains and builds versions: the CPU build of torch; for GPUs name another index.
#
#   docker build -f deploy/train.Dockerfile -t twhin-train .
#
# With Spark, to prepare graphs on (docs/scale.md), half a gigabyte more:
#
#   docker build -f deploy/train.Dockerfile -t twhin-train --build-arg SPARK=1 .

FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG SPARK=
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
ENV HNSWLIB_NO_NATIVE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/twhin
WORKDIR /src
COPY . .
RUN /opt/twhin/bin/pip install --index-url "$TORCH_INDEX" --no-deps "$(grep '^torch==' requirements.lock)" \
    && /opt/twhin/bin/pip install -c requirements.lock ".[storage,train${SPARK:+,spark}]"

FROM python:3.12-slim-bookworm
ARG SPARK=
# The training step is compiled for the machine that it runs on, at its first start.
RUN apt-get update && apt-get install -y --no-install-recommends g++ ${SPARK:+openjdk-17-jre-headless} && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin twhin
COPY --from=build /opt/twhin /opt/twhin
ENV PATH=/opt/twhin/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
ENTRYPOINT ["twhin"]
