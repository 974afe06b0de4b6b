"""Where the pages are. Below /sync is syncd, which asgi.py mounts."""

from __future__ import annotations

from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.views import LoginView
from django.urls import path
from django.views.generic import CreateView

from . import views

sign_up = CreateView.as_view(form_class=UserCreationForm, template_name="form.html", success_url="/sign-in/")
urlpatterns = [
    path("", views.home),
    path("sign-up/", sign_up),
    path("sign-in/", LoginView.as_view(template_name="form.html")),
    path("phones/", views.phone),
    path("publish/", views.Publish.as_view()),
    path("n/<slug:slug>/", views.published),
]
