# The image of lbcore: `docker build -t lbcore:0.1.0 .`
# All stages are the same slim Python, on the Debian whose nginx is known; the first one alone has pip's cache.
FROM python:3.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/lbcore \
 && /opt/lbcore/bin/pip install --no-cache-dir --no-compile --constraint constraints.txt ".[all]" \
 && /opt/lbcore/bin/python -m compileall -q /opt/lbcore/lib \
 && /opt/lbcore/bin/pip uninstall --yes --quiet pip

# With nginx in it, for `lbcore ingress`: `docker build --target ingress -t lbcore-ingress:0.1.0 .`
# Its master is root, so that its workers are somebody else, who cannot read the token of the API server.
FROM python:3.12-slim-bookworm AS ingress
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nginx-light libnginx-mod-http-lua libnginx-mod-stream \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/lbcore /opt/lbcore
ENV PATH=/opt/lbcore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ENTRYPOINT ["lbcore"]

FROM python:3.12-slim-bookworm
COPY --from=build /opt/lbcore /opt/lbcore
ENV PATH=/opt/lbcore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Nothing is written to the root file system: run it read-only, with /tmp (and /run/lbcore, for the speaker) writable.
# The speaker's Pod asks for root and CAP_NET_RAW itself.
USER 65534:65534
ENTRYPOINT ["lbcore"]
