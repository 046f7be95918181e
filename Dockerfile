# The image of lbcore: `docker build -t lbcore:0.1.0 .`
# Both stages are the same slim Python; the first one alone has pip's cache and the sources.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN python -m venv /opt/lbcore \
 && /opt/lbcore/bin/pip install --no-cache-dir --no-compile --constraint constraints.txt ".[all]" \
 && /opt/lbcore/bin/python -m compileall -q /opt/lbcore/lib \
 && /opt/lbcore/bin/pip uninstall --yes --quiet pip

FROM python:3.12-slim
COPY --from=build /opt/lbcore /opt/lbcore
ENV PATH=/opt/lbcore/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Nothing is written to the root file system: run it read-only, with /tmp (and /run/lbcore, for the speaker) writable.
# The speaker's Pod asks for root and CAP_NET_RAW itself.
USER 65534:65534
ENTRYPOINT ["lbcore"]
