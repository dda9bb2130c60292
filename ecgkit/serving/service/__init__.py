"""The service: ECGs over HTTP and WebSocket, answered by processes that hold the models."""
