"""The measuring engine: loads, exports, runs and compares models.

It stands alone: no web, queue or database package. One request goes in as JSON on standard input, JSON lines come
out on standard output (`protocol.py`), arrays and models are exchanged as files in the request's scratch folder.
"""
