"""`uvicorn notes.asgi:application`: syncd below /sync, and the project everywhere else."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notes.settings")
project = get_asgi_application()

from syncd.django.asgi import mounted  # noqa: E402  Django has to be set up before

application = mounted(project)
