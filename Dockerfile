# The service, without torch. docs/operations.md says how to check it with and without a Docker engine.

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md constraints.txt ./
COPY assessor assessor
COPY app app
COPY norms norms
COPY clients clients
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# The environment has no pip of its own: nothing is installed after this.
RUN python -m venv --without-pip /opt/normgauge \
    && wheel="$(echo /wheels/normgauge-*.whl)" \
    && python -m pip --python /opt/normgauge install --no-cache-dir --constraint constraints.txt \
        "normgauge[app,fast,otel,report] @ file://${wheel}"
# Compiled once for machines like the one that builds, not at each start; -I, so that what was installed is what is loaded.
RUN NUMBA_CACHE_DIR=/opt/normgauge/kernels /opt/normgauge/bin/python -I -c \
    "from assessor.kernels import warm; [warm(dtype) for dtype in ('float32', 'float64', 'uint8')]"
COPY deploy/image/start.sh /opt/normgauge/

FROM python:3.12-slim
LABEL org.opencontainers.image.title="normgauge" \
      org.opencontainers.image.description="Tells, before training, which batches of a dataset need normalization."
ENV PATH=/opt/normgauge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    NORMGAUGE_HOST=0.0.0.0 \
    NORMGAUGE_PORT=8000 \
    NORMGAUGE_REQUIRE_KEYS=true \
    NORMGAUGE_DATABASE_URL=sqlite:////data/normgauge.db
COPY --from=build /opt/normgauge /opt/normgauge
# A new volume takes over the owner of the folder that it covers.
RUN install --directory --owner=10001 --group=10001 /data
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['NORMGAUGE_PORT']}/readyz\", timeout=2)"]
ENTRYPOINT ["sh", "/opt/normgauge/start.sh"]
CMD ["serve"]
