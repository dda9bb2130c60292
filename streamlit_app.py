"""The page for a hosting service that runs this file with Streamlit; on your own computer: ``ecgkit app``."""

from ecgkit.serving.page.script import main

main()
