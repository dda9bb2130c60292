"""The page (Streamlit) and the service (REST, WebSocket)."""
