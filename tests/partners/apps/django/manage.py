"""A Django project in one file, started as every Django project is: python manage.py runserver"""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path

# DEBUG makes Django take `localhost` and everything below it for its own, as `startproject` leaves it.
settings.configure(DEBUG=True, SECRET_KEY="for tests only", ROOT_URLCONF=__name__)

urlpatterns = [path("", lambda request: HttpResponse("moored in Django"))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
