"""For a project's asgi.py: syncd below its prefix, the project everywhere else."""

from __future__ import annotations

from typing import Any

from syncd.asgi import SyncApplication, create_app
from syncd.django import configuration
from syncd.edge.answers import Receive, Scope, Send
from syncd.edge.mounted import placed


class DjangoMount:
    """An ASGI application that is two. Django knows no lifespan, so it is syncd's."""

    def __init__(self, project: Any, sync: SyncApplication, prefix: str) -> None:
        self._project, self._prefix = project, prefix
        self.sync = sync

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes it to whose it is."""
        own = scope["type"] == "lifespan" or placed(scope, self._prefix) is not None
        await (self.sync if own else self._project)(scope, receive, send)


def mounted(project: Any) -> DjangoMount:
    """`application = mounted(get_asgi_application())`. Raises ImproperlyConfigured, SettingsError."""
    prefix = configuration.prefix()
    sync = create_app(
        configuration.settings(), authenticate=configuration.authenticate(), prefix=prefix,
        recheck=configuration.recheck(), lazily=True,
    )  # fmt: skip
    return DjangoMount(project, sync, prefix)
