"""A Django project in one file: a page with a form that Django's CSRF guard protects.

Everything that the guard looks at (hosts, middleware, cookies) is as `startproject` leaves it.
Start: python django_site.py runserver --noreload 127.0.0.1:PORT
"""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path
from django.utils.html import escape

settings.configure(
    DEBUG=True,
    SECRET_KEY="for tests only",
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)

PAGE = """<!doctype html>
<title>Harbour</title>
<form method="post">{% csrf_token %}<input name="name"><button>Sign in</button></form>
"""


def harbour(request):
    if request.method == "POST":
        # An absolute address, made from the Host that arrived: it must lead back to the proxy.
        return redirect(request.build_absolute_uri("/harbour/berth") + "?name=" + request.POST["name"])
    return HttpResponse(engines["django"].from_string(PAGE).render(request=request))


def berth(request):
    return HttpResponse("moored: " + escape(request.GET["name"]))


urlpatterns = [path("harbour", harbour), path("harbour/berth", berth)]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
