FROM python:3.13-slim
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 \
    UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN useradd --system --no-create-home --uid 10001 app
WORKDIR /app
COPY pyproject.toml uv.lock ./
COPY backend/pyproject.toml backend/
COPY inference/pyproject.toml inference/
COPY training/pyproject.toml training/
RUN --mount=type=cache,target=/root/.cache/uv \
    pip install --no-cache-dir --quiet uv \
    && uv sync --frozen --only-group monitor \
    && pip uninstall --quiet --yes uv
USER app
CMD ["celery", "flower", "--address=0.0.0.0", "--port=5555"]
