"""The pages."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST
from django.views.generic import CreateView

import syncd
from syncd.core.errors import NotFound, SyncdError

from .models import Link
from .phones import token

APP = TABLE = "notes"
TEAM = "team"  # the space of all who are invited to it


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """The user's own notes and the team's, as the phones have written them."""
    user = str(request.user.pk)
    own = syncd.read(connection, user=user, app=APP, table=TABLE).records
    try:
        team = syncd.read(connection, user=user, app=APP, space=TEAM, table=TABLE).records
    except NotFound:  # who was not invited sees none
        team = []
    return render(request, "home.html", {"own": own, "team": team})


@login_required
@require_POST
def phone(request: HttpRequest) -> HttpResponse:
    """What a phone needs to sync."""
    return JsonResponse({"user": str(request.user.pk), "token": token(request.user)})


def note_of(link: Link) -> syncd.Record:
    """The note as it is now, if its publisher may read it. Raises NotFound."""
    user, space = str(link.owner.pk), link.space or None
    note: syncd.Record | None = syncd.read(connection, user=user, app=APP, table=TABLE, space=space, id=link.note)
    if note is None or note.deleted:
        raise NotFound("There is no such note.")
    return note


class Publish(LoginRequiredMixin, CreateView):
    """Writes a row of Django's and the note's record: both, or neither."""

    model, fields = Link, ("slug", "note", "space")
    template_name, success_url = "form.html", "/"

    def form_valid(self, form: Any) -> HttpResponse:
        """Writes the record last, since devices that push to the same space wait from there to the commit."""
        link = form.instance
        link.owner = self.request.user
        change = {"table": TABLE, "id": link.note, "op": "update", "fields": {"link": link.slug}}
        if link.space:
            change["spaceId"] = link.space
        try:
            with transaction.atomic():
                answer = super().form_valid(form)  # the row
                note_of(link)
                syncd.write(connection, user=str(link.owner.pk), app=APP, changes=[change])
        except (SyncdError, IntegrityError) as why:  # and nothing was written
            form.add_error(None, why.detail if isinstance(why, SyncdError) else "This address is taken.")
            return self.form_invalid(form)
        return answer


def published(request: HttpRequest, slug: str) -> HttpResponse:
    """A note for everybody, under its address."""
    try:
        note = note_of(get_object_or_404(Link, slug=slug))
    except NotFound:
        raise Http404 from None
    return render(request, "home.html", {"own": [note]})
