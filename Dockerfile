# The server and its page, with the built-in encoder. Build: docker build -t patchwise .
# Start: see compose.yaml, or docs/client.md#container.
# Debian 12 and Python 3.12 stay; security fixes of both come with a new build.
ARG PYTHON=python:3.12-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt ./
COPY src ./src
RUN python -m venv /opt/patchwise \
 && PIP_CONSTRAINT=constraints.txt pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && wheel="$(ls /wheels/patchwise-*.whl)" \
 && /opt/patchwise/bin/pip install --no-cache-dir --only-binary=:all: --constraint constraints.txt \
      "${wheel}[server,heif,parquet]"

FROM ${PYTHON}
COPY --from=build /opt/patchwise /opt/patchwise
# A number that no user of the host is likely to have, and that is the same in every build: files in volumes keep it.
RUN groupadd --gid 10001 patchwise \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin patchwise \
 && install -d -o 10001 -g 10001 -m 0750 /data \
 && install -d /pictures
ENV PATH=/opt/patchwise/bin:$PATH \
    HOME=/data \
    PATCHWISE_CACHE=/data/cache \
    PATCHWISE_HOST=0.0.0.0 \
    PATCHWISE_PORT=8799 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
# Gallery, uploads and cache; pictures of your own are mounted at /pictures, where they are only read.
VOLUME ["/data"]
EXPOSE 8799
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['PATCHWISE_PORT'] + '/api/v1/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["patchwise"]
# No token is in here: other machines reach this host, so that without PATCHWISE_TOKEN it refuses to start.
CMD ["serve", "--gallery", "photos=/data/photos", "--uploads", "/data/uploads", "--root", "/pictures"]
