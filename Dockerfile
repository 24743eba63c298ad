# The operator with every vendor's SDK. Builds with `docker buildx build .` and `buildah build .`;
# any base with Python 3.11 or newer as `python3` and its venv module will do.
ARG BASE=docker.io/library/python:3.11.13-slim-bookworm

FROM ${BASE} AS build
# Files that are compiled carry a hash of their source instead of a time: builds can be compared.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/tools && /opt/tools/bin/pip install 'pip==25.2' 'hatchling==1.27.0' \
    && python3 -m venv --without-pip /opt/auterity
WORKDIR /src
# Third parties first: they change more seldom than the code. Wheels only, each of a known hash.
COPY requirements-image.lock ./
RUN /opt/tools/bin/pip --python /opt/auterity/bin/python install \
    --require-hashes --only-binary :all: --requirement requirements-image.lock
COPY pyproject.toml README.md ./
COPY operator operator
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
    && /opt/tools/bin/pip --python /opt/auterity/bin/python install --no-deps /tmp/wheel/*.whl

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=""
LABEL org.opencontainers.image.title="auterity" \
    org.opencontainers.image.description="Keeps integrations at clouds and SaaS vendors as custom resources." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}" \
    org.opencontainers.image.source="${SOURCE}"
# Nothing is installed into a running container.
RUN if python3 -m pip --version >/dev/null 2>&1; then \
        python3 -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel; fi
COPY --from=build /opt/auterity /opt/auterity
# The root filesystem may be read-only; what SDKs keep goes to /tmp.
ENV PATH=/opt/auterity/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 8080 9443
ENTRYPOINT ["auterity"]
CMD ["--help"]
