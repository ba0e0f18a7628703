# Two targets: `api` (no torch, small) and `worker` (measures models).
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 zooaudit && install -d -o zooaudit /data
WORKDIR /srv/zooaudit
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations

FROM base AS api
RUN pip install --constraint constraints.txt .
USER zooaudit
ENV ZOOAUDIT_DATA_DIR=/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=6 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["uvicorn", "--factory", "app.main:create_app", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS worker
RUN pip install --constraint constraints.txt '.[gpu,keras]'
USER zooaudit
ENV ZOOAUDIT_DATA_DIR=/data
HEALTHCHECK --interval=30s --timeout=20s --start-period=30s --retries=3 \
  CMD celery --app workers.celery_app inspect ping --destination "worker@$(hostname)" --timeout 10
CMD ["celery", "--app", "workers.celery_app", "worker", "--hostname", "worker@%h", "--queues", "cpu", "--concurrency", "1"]
