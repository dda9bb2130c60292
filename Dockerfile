# The service with the graph of resnet1d, without torch.
#
#   docker build --tag ecgkit .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --publish 127.0.0.1:8000:8000 ecgkit

FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /build && /build/bin/pip install --no-cache-dir torch --index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN /build/bin/pip install --no-cache-dir ".[onnx]" \
    && /build/bin/ecgkit export-model resnet1d --format onnx --to /models/resnet1d
# What answers an ECG from a graph: every dependency but torch and what only training and the notebooks need.
RUN python -m venv /service \
    && /service/bin/pip install --no-cache-dir --requirement requirements-serve.txt \
    && /service/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
RUN useradd --system --uid 10001 ecgkit
COPY --from=build /service /service
COPY --from=build /models /models
USER ecgkit
ENV PATH=/service/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp HOME=/tmp
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
CMD ["ecgkit", "serve", "--host", "0.0.0.0", "--model", "/models/resnet1d", "--backend", "onnx"]
