"""Latency of same-named models, measured in one session so that their ratio can be trusted."""
