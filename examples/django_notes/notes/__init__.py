"""Notes: a Django project with Django's own login, whose users have their notes offline as well."""
