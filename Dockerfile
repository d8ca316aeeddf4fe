# A node. The bucket is named by ELACSYM_STORAGE and AWS_*, keys by ELACSYM_API_KEYS; README.md lists all settings.
FROM python:3.12-slim-bookworm AS build
COPY pyproject.toml README.md LICENSE /source/
COPY elacsym /source/elacsym
RUN python -m venv /opt/elacsym && /opt/elacsym/bin/pip install --no-cache-dir /source

FROM python:3.12-slim-bookworm
# the cache is the only folder that a node writes to; losing it costs time only
RUN useradd --system --uid 10001 --home-dir /var/cache/elacsym --shell /usr/sbin/nologin elacsym \
    && install --directory --owner=elacsym --group=elacsym --mode=0700 /var/cache/elacsym
COPY --from=build /opt/elacsym /opt/elacsym
ENV PATH=/opt/elacsym/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ELACSYM_HOST=0.0.0.0 \
    ELACSYM_PORT=3000 \
    ELACSYM_CACHE_PATH=/var/cache/elacsym
USER elacsym
WORKDIR /var/cache/elacsym
VOLUME /var/cache/elacsym
EXPOSE 3000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['ELACSYM_PORT']), timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["elacsym"]
CMD ["serve"]
