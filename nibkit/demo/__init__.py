"""The page of ``nibkit demo``: what it computes, how it looks, and how it is served.

``uploads.py`` says what it takes, ``compute.py`` makes files and figures of it; ``page.py`` and its tabs show them with
Gradio, which nothing else in nibkit imports; ``serve.py`` opens it on this machine.
"""
