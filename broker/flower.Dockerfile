FROM python:3.13-slim AS uv
RUN pip install --no-cache-dir --quiet uv==0.13.9

FROM uv AS lock
WORKDIR /lock
COPY pyproject.toml uv.lock ./
COPY backend/pyproject.toml backend/
COPY inference/pyproject.toml inference/
COPY training/pyproject.toml training/
RUN uv export --quiet --frozen --no-header --no-annotate --no-emit-workspace --only-group monitor -o packages.txt

FROM python:3.13-slim
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --system --no-create-home --uid 10001 app
WORKDIR /app
RUN --mount=type=bind,from=uv,source=/usr/local/bin/uv,target=/bin/uv \
    --mount=type=bind,from=lock,source=/lock/packages.txt,target=/packages.txt \
    --mount=type=cache,target=/root/.cache/uv \
    export UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
    && uv venv --quiet .venv \
    && uv pip sync --quiet --require-hashes --compile-bytecode /packages.txt
COPY broker/flower-entrypoint /usr/local/bin/
COPY broker/flower_celery.py ./
USER app
ENTRYPOINT ["flower-entrypoint"]
CMD ["celery", "flower", "--address=0.0.0.0", "--port=5555"]
