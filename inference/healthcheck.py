"""The container's health check: exit 0 if its worker has announced itself lately."""

import os
import socket
import sys

import psycopg

ALIVE = "SELECT last_seen > now() - interval '15 seconds' FROM workers WHERE name = %s"

with psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=3) as connection:
    row = connection.execute(ALIVE, (f"inference@{socket.gethostname()}",)).fetchone()
sys.exit(0 if row and row[0] else 1)
