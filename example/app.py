"""The Celery app.

Table, broker and results are SQLite files in ``.demo``, so that no server is needed.
``SCHEDULER_DB_URI``, ``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND`` name others.
"""

import os
from pathlib import Path

from celery import Celery

home = Path(__file__).parent.parent / ".demo"
home.mkdir(exist_ok=True)

broker = os.environ.get("CELERY_BROKER_URL", f"sqla+sqlite:///{home / 'broker.db'}")
results = os.environ.get("CELERY_RESULT_BACKEND", f"db+sqlite:///{home / 'results.db'}")

app = Celery("example", broker=broker, backend=results, include=["example.tasks"])
app.conf.scheduler_db_uri = os.environ.get("SCHEDULER_DB_URI", f"sqlite:///{home / 'routines.db'}")

# A worker of the example takes nobody else's messages from a broker that others use too.
app.conf.task_default_queue = "celery-sqlalchemy-kit-example"
app.conf.broker_connection_retry_on_startup = True
