# replay-jax in a container, on CPUs; for accelerators --build-arg EXTRAS=tpu,gcs or EXTRAS=cuda,gcs;
# Parquet and TFDS by EXTRAS=parquet or tfds.
#
#   docker build -t replay-jax .
#   docker run --rm -v "$PWD:/study" replay-jax run smoke
FROM python:3.11-slim

ARG EXTRAS=""
WORKDIR /opt/replay_jax
COPY pyproject.toml README.md LICENSE ./
COPY replay_jax replay_jax
COPY configs configs
COPY experiments/published_points experiments/published_points
# The package itself, by its own ranges.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

# Runs, stores and compiled programs go below the folder that is mounted here.
WORKDIR /study
ENTRYPOINT ["replay-jax"]
CMD ["--help"]
