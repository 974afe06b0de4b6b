"""What is Django's own. Notes are records of syncd's, and in no table here."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Link(models.Model):
    """A note that is published: everybody reads it at /n/SLUG/. Its record has the slug too, so phones show it."""

    slug = models.SlugField(unique=True)
    note = models.CharField(max_length=200)
    space = models.CharField(max_length=200, blank=True)  # "": the owner's personal one
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
