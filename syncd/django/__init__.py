"""syncd in a Django project: an app for INSTALLED_APPS. `manage.py migrate` makes its schema, `manage.py check` runs
its doctor, the signed-in user is the caller, and `syncd.django.asgi.mounted` serves it beside the project's views.

docs/guide/mounting.md goes through it.
"""
