"""Teams: whose something is."""

import re

SHARED = "shared"
"""Stands for a team where everybody sees something; a key of this team submits for everybody."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
NAMING = "a team's name is made of small letters, digits, - and _, at most 100."
